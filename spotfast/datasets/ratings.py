"""Read files of ratings, one `user, item, rating, timestamp` or `user, item, rating` a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spotfast.validation import MAX_ID

_MAX_TIMESTAMP = 2**31 - 1

# Whole numbers are read as floats: some releases of NumPy cut 1.5 down to 1 where an integer is asked for.
_COLUMNS = [("user_ids", "f8"), ("item_ids", "f8"), ("ratings", "f4"), ("timestamps", "f8")]
_RANGES = {"user_ids": (1, MAX_ID), "item_ids": (1, MAX_ID), "timestamps": (0, _MAX_TIMESTAMP)}


class Ratings(NamedTuple):
    """The columns of a file of N ratings, in its order; for timestamps that it has not, 0 to N - 1."""

    user_ids: NDArray[np.int32]
    item_ids: NDArray[np.int32]
    ratings: NDArray[np.float32]
    timestamps: NDArray[np.int32]


@dataclass(frozen=True)
class Format:
    """How the lines of a file of ratings are written.

    Attributes:
        separator: what stands between two fields.
        header: the first line, without its line break; empty where the file starts with a rating.
        timestamps: whether each line ends with one.
    """

    separator: bytes
    header: bytes = b""
    timestamps: bool = True

    def __str__(self) -> str:
        fields = [b"user", b"item", b"rating", b"timestamp"][: 3 + self.timestamps]
        after = f" after the header {self.header.decode()!r}" if self.header else ""
        ids = f"with ids from 1 to {MAX_ID}"
        rest = (
            f", a finite rating and a timestamp in whole seconds from 0 to {_MAX_TIMESTAMP}"
            if self.timestamps
            else " and a finite rating"
        )
        return f"{self.separator.join(fields).decode()!r}{after}, {ids}{rest}"


def read(stream: IO[bytes], form: Format, name: str) -> Ratings:
    r"""Read all ratings with `numpy.loadtxt`. Blank lines are passed over.

    Args:
        stream: a binary stream at its start, which can be sought in.
        form: how its lines are written.
        name: what messages call the file.

    Returns:
        Four arrays of shape (N,): int32 users and items in [1, 2**31 - 2], float32 ratings, int32 timestamps
        in seconds since 1970 (or 0 to N - 1, see `Ratings`).

    Raises:
        ValueError: for a line that is not a rating, naming the file, the line and the expected format; for a
            file without ratings.

    Example:
        >>> import io
        >>> read(io.BytesIO(b"1::31::2.5::1260759144\n"), Format(b"::"), "ratings.dat").ratings
        array([2.5], dtype=float32)
    """
    if form.header:
        header = stream.readline(len(form.header) + 2).rstrip(b"\r\n")
        if header != form.header:
            raise ValueError(f"{name} must start with the line {form.header.decode()!r}, got {_shown(header)}")
    lines = filter(bytes.strip, stream)
    first = next(lines, None)
    if first is None:
        raise ValueError(f"{name} holds no ratings: expected lines of {form}")
    delimiter = form.separator if len(form.separator) == 1 else b"\t"  # NumPy's are one character long
    row = -1

    def rows() -> Iterator[bytes]:
        nonlocal row
        for line in chain([first], lines):
            row += 1
            yield line.replace(form.separator, delimiter)

    columns = _COLUMNS[: 3 + form.timestamps]
    try:
        table = np.loadtxt(rows(), columns, comments=None, delimiter=delimiter.decode(), encoding="latin-1", ndmin=1)
    except ValueError:
        raise _malformed(stream, row, form, name) from None
    good = np.isfinite(table["ratings"])
    for column in _RANGES.keys() & dict(columns):
        low, high = _RANGES[column]
        values = table[column]
        good &= (values >= low) & (values <= high) & (values == np.floor(values))
    if not good.all():
        raise _malformed(stream, int(good.argmin()), form, name)
    return Ratings(
        user_ids=table["user_ids"].astype(np.int32),
        item_ids=table["item_ids"].astype(np.int32),
        ratings=table["ratings"].copy(),
        timestamps=table["timestamps"].astype(np.int32) if form.timestamps else np.arange(len(table), dtype=np.int32),
    )


def _malformed(stream: IO[bytes], row: int, form: Format, name: str) -> ValueError:
    """Return the error about the row with this number, counted from 0 without header and blank lines."""
    for _ in stream:
        pass  # at its end a damaged archive is found out, which is the better error
    stream.seek(0)
    filled = ((number, line) for number, line in enumerate(stream, 1) if line.strip())
    number, line = next(islice(filled, row + bool(form.header), None))
    return ValueError(f"{name}, line {number}: expected {form}, got {_shown(line.rstrip())}")


def _shown(line: bytes) -> str:
    """Return the beginning of a line, for a message."""
    return repr(line[:80].decode("utf-8", "replace"))
