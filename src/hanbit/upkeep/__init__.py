"""Keeping a data folder well: backups, restoring, upgrades, and the proof that each of them ends with."""
