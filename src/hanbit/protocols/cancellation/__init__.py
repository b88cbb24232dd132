"""Cancellation (document A, Figure 4): C1 to C3."""
