"""`python -m hanbit`: the same as the command `hanbit`."""

from hanbit.cli import main

main()
