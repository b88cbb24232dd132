"""Sans-IO roles and formats of both checkouts: no socket, no clock, no database."""
