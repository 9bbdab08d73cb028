"""Builds wheel and source distribution twice, and fails where their bytes differ, naming the file that does.

Usage: python scripts/check_reproducible.py [--no-isolation] [--outdir DIST]

Two copies of this tree are built, in folders with other names, at other times, with other hash seeds and time zones.
The wheel is built from the source distribution, so that this is known to be complete. SPOTFAST_CUDA_TARGETS is heeded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILDS = {  # the name of the copy's folder, and what differs in the environment
    "first": {"PYTHONHASHSEED": "1", "TZ": "UTC"},
    "second_in_a_longer_folder": {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"},
}
MADE = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "wheelhouse",
    "*.egg-info", "*.so", "*.pyd", ".coverage*",
)  # fmt: skip
MOMENT = "1767225600"  # the files' time, unless SOURCE_DATE_EPOCH is set


def main(arguments: list[str] | None = None) -> int:
    """Build twice and compare; return 0 if all bytes are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-isolation", action="store_true", help="build with what this environment has installed")
    parser.add_argument("--outdir", type=Path, help="where to leave what was built, if it is reproducible")
    options = parser.parse_args(arguments)
    flags = ["--no-isolation"] if options.no_isolation else ["--dependency-constraints-txt", "constraints.txt"]
    with tempfile.TemporaryDirectory() as folder:
        first, second = (build(Path(folder) / name, settings, flags) for name, settings in BUILDS.items())
        found = compare(first, second)
        for line in found:
            print(line, file=sys.stderr)
        if not found and options.outdir is not None:
            shutil.copytree(first, options.outdir, dirs_exist_ok=True)
    return 1 if found else 0


def build(tree: Path, settings: dict[str, str], flags: list[str]) -> Path:
    """Build a copy of this checkout at `tree`; return the folder with wheel and source distribution."""
    shutil.copytree(ROOT, tree, ignore=MADE, copy_function=shutil.copy)  # with times of now
    environment = {"SOURCE_DATE_EPOCH": MOMENT, **os.environ, **settings, "SPOTFAST_REQUIRE_EXT": "1"}
    command = [sys.executable, "-m", "build", *flags, "--outdir", "dist", "."]
    built = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        sys.exit(f"{built.stdout}{built.stderr}\nthe build of {tree.name} failed")
    return tree / "dist"


def compare(first: Path, second: Path) -> list[str]:
    """Return a line for everything that differs between two folders; print the hash of each file that is the same."""
    found = []
    for name in sorted({path.name for folder in (first, second) for path in folder.iterdir()}):
        one, other = first / name, second / name
        if not (one.exists() and other.exists()):
            found.append(f"{name}: built only once")
        elif one.read_bytes() == other.read_bytes():
            print(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {name}  {one.stat().st_size:,} bytes")
        else:
            found.extend(f"{name}: {line}" for line in differences(one, other))
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Return a line for each member that differs between two archives of different bytes."""
    members, others = contents(one), contents(other)
    lines = [f"{name}: in one archive only" for name in sorted(members.keys() ^ others.keys())]
    for name in sorted(members.keys() & others.keys()):
        (data, about), (other_data, other_about) = members[name], others[name]
        if data != other_data:
            lines.append(f"{name}: contents differ ({len(data):,} and {len(other_data):,} bytes)")
        if about != other_about:
            lines.append(f"{name}: {about} and {other_about}")
    if not lines and list(members) != list(others):
        lines.append("the order of the members differs")
    return lines or ["the members are the same: the archive's own header or compression differs"]


def contents(path: Path) -> dict[str, tuple[bytes, str]]:
    """Return contents and description (time, mode, owner) of each member of a wheel or source distribution."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {
                member.filename: (wheel.read(member), f"time {member.date_time}, mode {member.external_attr >> 16:o}")
                for member in wheel.infolist()
            }
    with tarfile.open(path) as sdist:
        return {
            member.name: (
                sdist.extractfile(member).read() if member.isfile() else b"",
                f"time {member.mtime}, mode {member.mode:o}, owner {member.uid}:{member.gid} {member.uname!r}",
            )
            for member in sdist
        }


if __name__ == "__main__":
    sys.exit(main())
