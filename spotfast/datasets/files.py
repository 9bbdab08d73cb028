"""Find a data set's file in a folder or a zip archive, whichever the user happens to have."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast


@dataclass(frozen=True)
class DataFile:
    """A file on disk, perhaps compressed with gzip (`.gz`), or the member of a zip archive on disk."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}{'/' if self.member else ''}{self.member}"

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    def starts_with(self, header: bytes) -> bool:
        """Return whether the file begins with these bytes."""
        with self.open() as stream:
            return stream.read(len(header)) == header

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for reading.

        Yields:
            A binary stream at the start of the file's content.

        Raises:
            ValueError: if the archive or compressed file turns out to be damaged, now or while it is read.
        """
        if not self.member:
            opened = _gunzipped(self.path) if self.path.suffix.lower() == ".gz" else self.path.open("rb")
            with opened as stream:
                yield stream
            return
        with _archive(self.path) as archive:
            member = cast(zipfile.ZipExtFile, archive.open(self.member))
            with io.BufferedReader(member) as stream:  # yields lines several times as fast
                yield stream


@dataclass(frozen=True)
class Wanted:
    """What to look for.

    Attributes:
        headers: the file's name, or names with the preferred one first; and how a file of that name begins,
            where that is known (else b"").
        folders: where it may lie below the place searched, besides directly in it, as `ml-100k`.
        archives: patterns for the names of zip archives that hold it, as `ml-100k.zip`.
        foreign: names of folders whose files are another data set's, although they are called the same.
    """

    headers: Mapping[str, bytes]
    folders: tuple[str, ...]
    archives: tuple[str, ...]
    foreign: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The file's possible names."""
        return tuple(self.headers)

    def __str__(self) -> str:
        files = [*self.names, *(f"{folder}/{name}" for folder in self.folders for name in self.names)]
        return ", ".join([*files, *self.archives])


def find(place: Path, wanted: Wanted) -> DataFile | None:
    """Look for a file in a folder or zip archive.

    In a folder, the folders named by `wanted` come first, then the archives, then the folder itself. In an
    archive the file may lie at any depth.

    Args:
        place: a folder, a zip archive, or the file itself. It need not exist.
        wanted: what to look for.

    Returns:
        The first file found, or None.

    Raises:
        ValueError: if an archive that may hold the file is damaged.
    """
    if place.is_file():
        if place.name in wanted.names:
            return DataFile(place)
        suspect = place.suffix.lower() in (".zip", ".whl")  # if it is no zip archive, say so
        return _find_in_archive(place, wanted) if suspect or zipfile.is_zipfile(place) else None
    for folder in wanted.folders:
        if found := _find_in_folder(place / folder, wanted):
            return found
    for pattern in wanted.archives:
        for path in sorted(place.glob(pattern)):
            if path.is_file() and (found := _find_in_archive(path, wanted)):
                return found
    # Last, since names without a folder may be any data set's.
    return _find_in_folder(place, wanted)


def _find_in_folder(folder: Path, wanted: Wanted) -> DataFile | None:
    if folder.resolve().name in wanted.foreign:
        return None
    paths = (folder / name for name in wanted.names)
    return next((DataFile(path) for path in paths if path.is_file()), None)


def _find_in_archive(path: Path, wanted: Wanted) -> DataFile | None:
    with _archive(path) as archive:
        members = {name: PurePosixPath(name) for name in archive.namelist()}
    found = [
        (wanted.names.index(member.name), len(member.parts), name)
        for name, member in members.items()
        if member.name in wanted.names and member.parent.name not in wanted.foreign
    ]
    return DataFile(path, min(found)[2]) if found else None


@contextmanager
def _gunzipped(path: Path) -> Iterator[IO[bytes]]:
    try:
        with gzip.open(path, "rb") as stream:
            yield cast(IO[bytes], stream)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is not a whole gzip file ({error}): delete it and fetch it again") from error


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is not a whole zip archive ({error}): delete it and fetch it again") from error
