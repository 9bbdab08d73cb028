"""Read Amazon's reviews: the products' file of 2006, and the CSV files of ratings that came later."""

from __future__ import annotations

from datetime import date
from typing import IO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

META_HEADER = b"# Full information about Amazon"
CSV_HEADER = b"user_id,parent_asin,rating,timestamp"  # of 2023; earlier files have none

_CHUNK = 1 << 24  # bytes: enough for the work per chunk not to matter, little enough to hold as lines
_EPOCH = date(1970, 1, 1)
_ASIN_LENGTH = 10  # of every item; users' names are longer
_MAX_RATING = float(np.finfo(np.float32).max)


class Reviews(NamedTuple):
    """The columns of a file of N reviews, in its order.

    Users and items are numbered from 0 in the order in which they first occur.
    """

    user_ids: NDArray[np.int32]
    item_ids: NDArray[np.int32]
    ratings: NDArray[np.float32]
    timestamps: NDArray[np.int64]


def read(stream: IO[bytes], name: str) -> Reviews:
    r"""Read all reviews of a file, whichever of the two formats it is in. Blank lines are passed over.

    Args:
        stream: a binary stream at its start, which can be sought in.
        name: what messages call the file.

    Raises:
        ValueError: for a line that is not as it should be, naming the file, the line and the expected format; for a
            file without reviews.

    Example:
        >>> import io
        >>> read(io.BytesIO(b"A1,B000000001,5.0,1365811200\n"), "ratings_Books.csv").ratings
        array([5.], dtype=float32)
    """
    is_meta = stream.read(len(META_HEADER)) == META_HEADER
    stream.seek(0)
    parse: _Parser = _Meta() if is_meta else _Csv()
    parts, number = [], 1
    while lines := stream.readlines(_CHUNK):
        try:
            parts.append(parse(lines))
        except _MalformedError as error:
            for _ in stream:
                pass  # at its end a damaged archive is found out, which is the better error
            shown = repr(lines[error.at].rstrip()[:80].decode("utf-8", "replace"))
            raise ValueError(f"{name}, line {number + error.at}: expected {parse.expected}, got {shown}") from None
        number += len(lines)
    if not sum(len(part.ratings) for part in parts):
        raise ValueError(f"{name} holds no reviews: expected lines of {parse.expected}")
    return Reviews(*map(np.concatenate, zip(*parts, strict=True)))


class _MalformedError(ValueError):
    """A line is not as it should be: `at` is its position in the chunk."""

    def __init__(self, at: int) -> None:
        self.at = at


class _Numbers(dict[bytes, int]):
    """The numbers of names, a new one for a new name."""

    def __missing__(self, name: bytes) -> int:
        self[name] = len(self)
        return self[name]

    def of(self, names: list[bytes]) -> NDArray[np.int32]:
        return np.fromiter(map(self.__getitem__, names), np.int32, len(names))


class _Parser(Protocol):
    """Reads a file chunk by chunk, each a list of lines."""

    expected: str

    def __call__(self, lines: list[bytes]) -> Reviews: ...


class _Csv:
    """Reads the ratings of 2014 (users first), 2018 (items first) and 2023 (users first, after a header)."""

    expected = "'user,item,rating,timestamp' or 'item,user,rating,timestamp', a finite rating and a timestamp >= 0"

    def __init__(self) -> None:
        self.users, self.items = _Numbers(), _Numbers()
        self.item_first: bool | None = None

    def __call__(self, lines: list[bytes]) -> Reviews:
        if self.item_first is None:
            first = lines[0].strip()
            fields = first.split(b",")
            self.item_first = first != CSV_HEADER and len(fields[0]) == _ASIN_LENGTH < len(fields[1 % len(fields)])
            if first == CSV_HEADER:
                lines = [b"", *lines[1:]]
        try:
            return self._read(lines)
        except (ValueError, OverflowError):
            raise _MalformedError(next(at for at, line in enumerate(lines) if not self._is_good(line))) from None

    def _is_good(self, line: bytes) -> bool:
        try:
            self._read([line])
        except (ValueError, OverflowError):
            return False
        return True

    def _read(self, lines: list[bytes]) -> Reviews:
        """Read lines all at once, without a turn of a Python loop for each. Every check is of single lines."""
        rows = [row for row in map(bytes.strip, lines) if row]
        if any([row.count(b",") != 3 for row in rows]):  # noqa: C419  a list is faster
            raise ValueError
        fields = b",".join(rows).split(b",") if rows else []
        names = fields[0::4], fields[1::4]
        users, items = reversed(names) if self.item_first else names
        ratings = np.fromiter(map(float, fields[2::4]), np.float64, len(rows))
        timestamps = np.fromiter(map(int, fields[3::4]), np.int64, len(rows))
        if b"" in users or b"" in items or not ((abs(ratings) <= _MAX_RATING) & (timestamps >= 0)).all():
            raise ValueError
        return Reviews(self.users.of(users), self.items.of(items), ratings.astype(np.float32), timestamps)


class _Meta:
    """Reads the reviews below each product of `amazon-meta.txt`. The misspelt word is the file's own."""

    expected = "'year-month-day  cutomer: NAME  rating: NUMBER  votes: ...' below an 'Id: NUMBER'"

    def __init__(self) -> None:
        self.users, self.items = _Numbers(), _Numbers()
        self.product = b""
        self.seconds = _Seconds()

    def __call__(self, lines: list[bytes]) -> Reviews:
        users, items, ratings, timestamps = [], [], [], []
        for at, line in enumerate(lines):
            fields = line.split(None, 6)
            if len(fields) > 1 and fields[0] == b"Id:":
                self.product = fields[1]
            elif fields and fields[0][:1].isdigit() and fields[0].count(b"-") == 2:
                try:
                    day, who, user, what, rating, then = fields[:6]
                    timestamps.append(self.seconds[day])
                    ratings.append(int(rating))
                except ValueError:
                    raise _MalformedError(at) from None
                if (who, what, then) != (b"cutomer:", b"rating:", b"votes:") or not self.product.isdigit():
                    raise _MalformedError(at)
                users.append(user)
                items.append(self.product)
        return Reviews(
            self.users.of(users), self.items.of(items), np.array(ratings, np.float32), np.array(timestamps, np.int64)
        )


class _Seconds(dict[bytes, int]):
    """When days begin in UTC, in seconds since 1970. Raises ValueError for what is no day."""

    def __missing__(self, day: bytes) -> int:
        self[day] = (date(*map(int, day.split(b"-"))) - _EPOCH).days * 86_400
        return self[day]
