"""Checks that a folder holds everything of one release, that its tag says the version, and that its wheels are whole.

python scripts/check_release.py DIST [TAG]
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import check_wheel

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("80", "86", "89", "90", "100", "120")  # of the kernels in wheels for Linux; others carry none
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "macosx_11_0_arm64", "win_amd64")


def main(arguments: list[str]) -> int:
    """Print what is wrong; return 0 if nothing is."""
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    folder, tag = Path(arguments[0]), arguments[1] if len(arguments) > 1 else None
    found = faults({path.name for path in folder.iterdir()}, version(), tag)
    for wheel in sorted(folder.glob("*.whl")):
        found += check_wheel.faults(wheel, TARGETS if "-manylinux" in wheel.name else ())
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


def version() -> str:
    """Return the version, from the one place where it is written."""
    namespace: dict[str, str] = {}
    exec((ROOT / "spotfast" / "_version.py").read_text("utf-8"), namespace)
    return namespace["__version__"]


def pythons() -> list[str]:
    """Return the interpreters of the package's classifiers: "cp311" and so on."""
    prefix = "Programming Language :: Python :: 3."
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    return [f"cp3{name.removeprefix(prefix)}" for name in classifiers if name.startswith(prefix)]


def faults(names: set[str], version: str, tag: str | None = None) -> list[str]:
    """Return a line for the tag if it names another version, and for each file that is missing or too many.

    A wheel may carry more than one platform tag; it has to carry the one that was asked for.
    """
    lines = [] if tag in (None, f"v{version}") else [f"the tag {tag} is not of version {version}: v{version}"]
    wheels = {name: name.removesuffix(".whl").split("-") for name in names if name.endswith(".whl")}
    expected = {f"spotfast-{version}.tar.gz"} & names
    if not expected:
        lines.append(f"missing: spotfast-{version}.tar.gz")
    for python in pythons():
        for platform in PLATFORMS:
            found = {
                name
                for name, parts in wheels.items()
                if parts[:4] == ["spotfast", version, python, python] and platform in parts[-1].split(".")
            }
            expected |= found
            if len(found) != 1:
                lines.append(f"missing: a wheel for {python} on {platform}" if not found else f"twice: {sorted(found)}")
    return lines + [f"too many: {name}" for name in sorted(names - expected)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
