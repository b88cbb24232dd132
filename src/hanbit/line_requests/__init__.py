"""The fourth face: what a merchant sends over the private line without being asked."""
