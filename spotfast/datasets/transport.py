"""Download a file: resumable, checked, and never half-written under its final name."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout
from tqdm import tqdm

from spotfast._version import __version__

CHUNK = 1 << 18  # bytes
ATTEMPTS = 10  # in one call, each but the first continuing what the one before got


class DataUnavailableError(OSError):
    """No source has the data. The message names each one and why it failed."""


class DownloadError(OSError):
    """A file could not be fetched."""


class CorruptDownloadError(DownloadError):
    """A file arrived, but not the one that its checksum promises."""


def cache_folder(*parts: str) -> Path:
    """Return the folder for downloads, which may not exist yet.

    Args:
        parts: folders below it, as `"movielens"`.

    Returns:
        The folder named by the environment variable `SPOTFAST_CACHE_DIR`, or else the one that the operating
        system reserves for the caches of applications.
    """
    named = os.environ.get("SPOTFAST_CACHE_DIR")
    if named:
        return Path(named).expanduser().joinpath(*parts)
    return Path(platformdirs.user_cache_dir("spotfast")).joinpath(*parts)


def download(url: str, target: str | os.PathLike[str], checksum: str | None = None, *, timeout: float = 10.0) -> Path:
    """Fetch a file over HTTP, unless it is there already.

    The body goes into `target.part`; `target.part.from` says where it comes from, so that it can be continued, in
    this call or a later one, if the connection breaks. Only a whole file with the right checksum is renamed to
    `target`. A second download of the same target, by another process or thread, waits for the first and finds
    its file.

    Args:
        url: http or https.
        target: where the file goes; its folder is made. A file that exists is returned as it is.
        checksum: `"md5:"` or `"sha256:"` (any algorithm of hashlib) and hexadecimal digits. None: not
            checked.
        timeout: seconds to wait for the connection, and for each piece of data.

    Returns:
        The path of the file.

    Raises:
        CorruptDownloadError: if the checksum is wrong; the file is deleted.
        DownloadError: if the server cannot be reached, refuses, or breaks off; what arrived is kept for the
            next time.
        OSError: if the folder cannot be written.
    """
    path = Path(target)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if not path.exists():
            part = _Part(path, url)
            part.complete(timeout)
            try:
                install(part.path, path, checksum)
            finally:
                part.delete()
    return path


def install(source: Path, target: Path, checksum: str | None) -> None:
    """Check a file and rename it to its final name, both in one file system.

    Raises:
        CorruptDownloadError: if the checksum is wrong.
    """
    with source.open("r+b") as stream:
        if checksum is not None:
            algorithm = checksum.partition(":")[0]
            digest = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
            got = f"{algorithm}:{digest.hexdigest()}"
            if got != checksum.lower():
                raise CorruptDownloadError(f"{target.name} is corrupt and was deleted: expected {checksum}, got {got}")
        os.fsync(stream.fileno())  # or a power cut may leave the name with nothing behind it
    os.replace(source, target)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path.lock`, waiting for whoever holds it. The system drops the lock of a process that dies.

    One lock rather than a part file per process: a part under a fixed name can be resumed by the next
    process, and the one that waits does not fetch the same bytes again.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{path.name}: waiting for another download of it to finish", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _Part:
    """The bytes of a download that have arrived, and a note in a second file of where they come from.

    The note holds the URL and what the server calls the version of the file: a strong ETag, or Last-Modified.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target, self.url = target, url
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.from")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        """The version that the bytes are of, "" if they cannot be continued."""
        if not self.note.exists():
            return ""
        url, _, version = self.note.read_text("utf-8", "replace").partition("\n")
        return version if url == self.url else ""

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def complete(self, timeout: float) -> None:
        """Fetch what is missing, anew as long as every attempt gets further than the one before."""
        failure = ""
        for _ in range(ATTEMPTS):
            before = self.size
            try:
                total = self._attempt(timeout)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not before:
                    raise DownloadError(f"HTTP {error.code} {error.reason}: {self.url}") from None
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return  # nothing was missing
                self.delete()  # it is longer than the file that the server has now
                continue
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)  # urllib wraps it
                failure = f"{type(reason).__name__}: {reason}"
            else:
                if total is None or self.size == total:
                    return
                failure = f"the connection was closed before all {total} bytes came"
            if self.size <= before:
                break
        raise DownloadError(f"{failure}, after {self.size} bytes: {self.url}")

    def _attempt(self, timeout: float) -> int | None:
        """Request the missing bytes once, take them or the whole, and return the size of the whole, if known."""
        headers = {"User-Agent": f"spotfast/{__version__}", "Accept-Encoding": "identity"}
        start = self.size
        if start and (version := self.version):
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        request = urllib.request.Request(self.url, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            answer = response.headers
            continues = answer.get("Content-Range", "").startswith(f"bytes {start}-")
            if not (response.status == HTTPStatus.PARTIAL_CONTENT and continues):
                start = 0
            total = None if response.length is None else start + response.length
            with (
                self.path.open("ab" if start else "wb") as stream,
                tqdm.wrapattr(stream, "write", total, desc=self.target.name, initial=start) as out,
            ):
                if not start:
                    tag = answer.get("ETag", "")
                    version = tag if tag.startswith('"') else answer.get("Last-Modified", "")
                    self.note.write_text(f"{self.url}\n{version}", "utf-8")
                while data := response.read1(CHUNK):  # what has arrived, so that little is lost with the connection
                    out.write(data)
        return total
