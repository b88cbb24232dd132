"""The merchants' console: a merchant's own payments and people."""
