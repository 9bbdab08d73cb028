"""The command line: `python -m spotfast`."""
