"""What `python -m spotfast` does with its arguments.

A command is a module of this package, named like the command, with two functions: `add_arguments(parser)` declares its
arguments, `run(options)` does the work and returns the exit status. It is imported only when it is asked for, so that
`--version` and `--help` need not wait for torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from spotfast._version import __version__
from spotfast.cli.errors import CommandError

COMMANDS = {
    "demo": "train four models on MovieLens 100K, evaluate them, recommend films",
    "doctor": "show what is installed, which backend runs each operation, and what is missing",
    "run": "run a program written for Spotlight, unchanged, on spotfast",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows `python -m spotfast`. Default: the arguments of this process.

    Returns:
        The exit status: 0, 1 if the command could not do its work or nobody read its output, 130 after an interrupt.

    Raises:
        SystemExit: with status 2 for arguments that are wrong, 0 after `--help` and `--version`.
        BaseException: what the script of `run` raises.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(given).parse_args(given)
    try:
        status = int(options.run(options))
        sys.stdout.flush()  # here, if nobody reads it any longer, and not when the interpreter ends
        return status
    except BrokenPipeError:
        if options.command == "run":  # the script's, as all that it raises
            raise
        # As the `signal` module's documentation has it: what is left to be written goes where it troubles nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CommandError as error:
        print(f"spotfast {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if options.command == "run":  # the script's, as all that it raises
            raise
        print(f"spotfast {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spotfast", description="Recommender models in PyTorch: a drop-in, much faster Spotlight."
    )
    parser.add_argument("--version", action="version", version=f"spotfast {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    wanted = next((argument for argument in given if not argument.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == wanted:
            module = importlib.import_module(f"spotfast.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
