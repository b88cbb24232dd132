"""A test operator: magic accounts and amounts, a clock that moves; only the composition root and the commands know it, live code never."""
