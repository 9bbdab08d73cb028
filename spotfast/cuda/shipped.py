"""The compiled kernels of this installation: where they are, and whether they belong to its kernels' sources."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import zlib
from pathlib import Path

from spotfast.cuda.manifest import NAME, Binary, Key, Manifest, Program, source_hash

FOLDER = Path(__file__).parent / "compiled"


class ImageError(RuntimeError):
    """A compiled kernel cannot be read."""


# The files of the kernels that an operation launches, where they are not just the one of its name.
FILES = {
    "factorization_epoch": ("epoch_entries", "epoch_scores", "epoch_updates", "schedule"),
    "row_update": ("row_update", "runs", "schedule"),
    "vector_ranks": ("ranks",),
    "vector_topk": ("topk",),
}


class Shipped:
    """What a folder of compiled kernels holds.

    Args:
        folder: with the manifest and the files that it names.
        sources: the folder of the kernels' Python files.

    Attributes:
        manifest: None where nothing here may be used.
        reason: why not.
        fault: whether something is wrong, rather than never shipped.
    """

    def __init__(self, folder: Path, sources: Path) -> None:
        self.manifest: Manifest | None = None
        self.reason, self.fault = "", False
        self._folder = folder
        try:
            manifest = Manifest.read(folder)
        except FileNotFoundError:
            self.fault = folder.exists()  # where none were shipped, the folder is not there either
            missing = f"compiled kernels are missing: there is no {folder / NAME}"
            self.reason = missing if self.fault else "this installation carries no compiled kernels"
        except (OSError, ValueError) as error:
            self.reason, self.fault = str(error), True
        else:
            if manifest.sources == source_hash(sources):
                self.manifest = manifest
            else:
                self.reason = "the compiled kernels are stale: they were made from other sources than those installed"
                self.fault = True
        programs = () if self.manifest is None else self.manifest.programs
        self._programs = {program.key: program for program in programs}

    def find(self, key: Key) -> Program | None:
        """Return the program of a launch, or None if there is none."""
        return self._programs.get(key)

    def of_operation(self, operation: str) -> list[Program]:
        """Return the programs of the kernels that an operation launches."""
        files = FILES.get(operation, (operation,))
        return [program for program in self._programs.values() if program.kernel.split(".")[0] in files]

    def image(self, target: str, binary: Binary) -> bytes:
        """Return a binary as it was compiled.

        Raises:
            ImageError: if its file is missing or not what was written.
        """
        assert self.manifest is not None
        path = self._folder / self.manifest.targets[target].file
        try:
            with path.open("rb") as file:
                file.seek(binary.offset)
                image = zlib.decompress(file.read(binary.length))
        except OSError as error:
            raise ImageError(f"compiled kernels are missing: {path} cannot be read ({error.strerror})") from error
        except zlib.error as error:
            raise ImageError(f"compiled kernels are corrupt: {path} ({error})") from error
        if hashlib.sha256(image).hexdigest() != binary.sha256:
            raise ImageError(f"compiled kernels are corrupt: {path} (another checksum)")
        return image


@functools.cache
def shipped() -> Shipped:
    """Return what this installation carries."""
    package = importlib.util.find_spec("spotfast.kernels")
    assert package is not None and package.submodule_search_locations
    return Shipped(FOLDER, Path(package.submodule_search_locations[0]))
