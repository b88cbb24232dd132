"""Proof: what each party signed, kept in the same commit as the state and the money."""
