"""The dual-signature checkout (document B): messages, and one file for each role."""
