"""The operator's console: payments, merchants, staff."""
