"""One file for each schema: how a book of the one before becomes one of it."""
