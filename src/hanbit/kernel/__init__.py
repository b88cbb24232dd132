"""What everything else stands on: money, ids, the clock and the tree of errors."""
