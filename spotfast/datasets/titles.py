"""Read the titles of MovieLens' films, which come in as many formats as there are data sets."""

from __future__ import annotations

import csv as csv_module
from collections.abc import Callable, Iterable, Iterator
from typing import IO

Reader = Callable[[IO[bytes], str], Iterator[tuple[int, str]]]
"""Takes a binary stream and its name for messages, yields item ids with their titles."""

_CSV_HEADER = ["movieId", "title", "genres"]
_RECBOLE_HEADER = ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"]


def bars(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Read 100K's `u.item`: Latin-1, `id|title|release date|...`."""
    for number, line in _lines(stream, name, "latin-1"):
        yield _entry(line.split("|")[:2], name, number, "id|title|...")


def colons_latin_1(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Read 1M's `movies.dat`: Latin-1, `id::title::genres`."""
    return _colons(stream, name, "latin-1")


def colons_utf_8(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Read 10M's `movies.dat`: UTF-8, `id::title::genres`."""
    return _colons(stream, name, "utf-8")


def csv(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Read 20M's `movies.csv`: UTF-8, `id,title,genres`, quoted where a title has a comma."""
    expected = ",".join(_CSV_HEADER)
    rows = csv_module.reader(line + "\n" for _, line in _lines(stream, name, "utf-8"))
    try:
        _check_header(next(rows, []), _CSV_HEADER, name)
        for row in rows:
            yield _entry(row[:2], name, rows.line_num, expected)
    except csv_module.Error as error:
        raise ValueError(f"{name}, line {rows.line_num}: expected {expected!r}: {error}") from None


def recbole(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Read RecBole's `ml-100k.item`: UTF-8, tab-separated, the year in a column of its own."""
    lines = _lines(stream, name, "utf-8")
    _check_header(next(lines, (1, ""))[1].split("\t"), _RECBOLE_HEADER, name)
    for number, line in lines:
        fields = line.split("\t")
        item, title = _entry(fields[:2], name, number, "\t".join(_RECBOLE_HEADER))
        year = fields[2] if len(fields) > 2 else ""
        yield item, f"{title} ({year})" if year.isdecimal() else title


def _colons(stream: IO[bytes], name: str, encoding: str) -> Iterator[tuple[int, str]]:
    for number, line in _lines(stream, name, encoding):
        item, _, rest = line.partition("::")
        title, found, _ = rest.rpartition("::")
        yield _entry([item, title] if found else [item], name, number, "id::title::genres")


def _lines(stream: IO[bytes], name: str, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, decoded, without line breaks, numbered from 1."""
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode(encoding).rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}, line {number}: expected text in {encoding}: {error}") from None
        if text.strip():
            yield number, text


def _entry(fields: list[str], name: str, number: int, expected: str) -> tuple[int, str]:
    """Return the item id and the title that a line begins with."""
    if len(fields) != 2 or not (fields[0].isascii() and fields[0].isdecimal()):
        raise ValueError(f"{name}, line {number}: expected {expected!r}, got {'|'.join(fields)[:80]!r}")
    return int(fields[0]), fields[1]


def _check_header(fields: Iterable[str], expected: list[str], name: str) -> None:
    if list(fields) != expected:
        raise ValueError(f"{name} must start with the columns {', '.join(expected)}, got {', '.join(fields)!r}")
