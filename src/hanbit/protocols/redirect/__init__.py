"""Document A, the redirect checkout: its messages and its three roles."""
