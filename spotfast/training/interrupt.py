"""Ctrl-C while training: it waits for the end of the step, so that no step is ever half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Hold back Ctrl-C inside the block.

    Yields:
        An event that is set by Ctrl-C. At the end of the block, `KeyboardInterrupt` is raised if it is. A second
        Ctrl-C does not wait. Outside the main thread, which alone receives signals, and where someone else handles
        them, nothing is held back.
    """
    interrupted = threading.Event()
    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupted
        return

    def hold_back(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    signal.signal(signal.SIGINT, hold_back)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted.is_set():
        raise KeyboardInterrupt
