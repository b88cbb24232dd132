"""The double-entry book: kinds of account, entries that balance or cannot exist, and which event makes which entry."""
