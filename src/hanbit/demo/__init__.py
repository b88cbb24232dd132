"""The demo: a fresh operator, two shops and their customers on this machine, all of it real."""
