"""Letters to customers: made of what the book says they are to be told, handed to the operator's own mail server."""
