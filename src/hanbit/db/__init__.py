"""The book on disk: its tables, the group commit under the book lock, and the engines behind both."""
