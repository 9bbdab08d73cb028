"""`python -m spotfast run`: a program written for Spotlight, unchanged, on spotfast."""

from __future__ import annotations

import argparse
import builtins
import os
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any

from spotfast.compat import InheritedPath, install

STANDARD_INPUT = "-"


class _ReadScript(argparse.Action):
    """Reads the script while the answer can still be a usage error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            if values[0] == STANDARD_INPUT:
                namespace.source = sys.stdin.buffer.read()
            else:
                with open(values[0], "rb") as file:
                    namespace.source = file.read()  # bytes, for python to decode as they declare
        except OSError as error:
            raise argparse.ArgumentError(self, f"cannot read {values[0]!r}: {error.strerror}") from error
        namespace.arguments = values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments. What follows the script is the script's, whatever it looks like."""
    # As a command of argparse takes what follows it: REMAINDER would lose a first "--".
    parser.add_argument(
        "arguments",
        nargs=argparse.PARSER,
        action=_ReadScript,
        metavar="SCRIPT.py",
        help="the program (-: standard input), and then the program's arguments",
    )


def run(options: argparse.Namespace) -> int:
    """Run the script as the main program of this process, as `python script.py` would.

    What python sets for a script stays set when the script has ended: its threads and exit handlers still run.

    Raises:
        BaseException: what the script raises, `SystemExit` and `KeyboardInterrupt` included, for the interpreter to
            turn into an exit status. Its traceback is shown from the script's first frame on.
    """
    if options.arguments[0] == STANDARD_INPUT:
        path, folder = "<stdin>", ""
        main = _main_module(path, BuiltinImporter)
    else:
        path = os.path.abspath(options.arguments[0])
        folder = os.path.dirname(os.path.realpath(path))
        main = _main_module(path, SourceFileLoader("__main__", path))
    install()
    sys.argv = list(options.arguments)
    # In python's safe mode (-P) the first entry is neither the current folder nor to become the script's.
    sys.path[0] = InheritedPath(sys.path[0] if sys.flags.safe_path else folder)
    sys.modules["__main__"] = main
    try:
        exec(compile(options.source, path, "exec", dont_inherit=True), main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook = _hook(sys.excepthook, frames)
        raise
    return 0


def _main_module(path: str, loader: object) -> ModuleType:
    """Return an empty `__main__` with what python gives a script. No `__spec__`: multiprocessing looks at that."""
    main = ModuleType("__main__")
    main.__file__ = path
    main.__dict__.update(__builtins__=builtins, __cached__=None, __loader__=loader)
    return main


def _hook(
    show: Callable[[type[BaseException], BaseException, TracebackType | None], object], frames: TracebackType | None
) -> Callable[[type[BaseException], BaseException, TracebackType | None], object]:
    """Return `show`, the hook that the script left in place, for the script's own frames."""
    return lambda kind, error, _: show(kind, error.with_traceback(frames), frames)
