"""How a command says that it cannot go on."""

from __future__ import annotations


class CommandError(Exception):
    """Ends the command with exit status 1. Its text is all that the user sees, without a traceback."""
