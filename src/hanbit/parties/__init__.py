"""Who takes part: customers with their accounts and devices, merchants, and the keys that are registered for each."""
