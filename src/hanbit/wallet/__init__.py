"""The installed payment program: the customer's role, with the operator's root pinned, for terminals, tests and load."""
