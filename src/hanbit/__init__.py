"""Hanbit (한빛): a self-hosted payment server, the merchant's side of it and the installed payment program."""

__version__ = "0.1.0"
