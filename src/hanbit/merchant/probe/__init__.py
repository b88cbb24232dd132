"""The conformance kit: a dishonest gateway and network against a merchant's own implementation, and what it wrongly accepted."""
