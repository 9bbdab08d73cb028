"""Runs the quick tests on the installed package, outside the checkout and without a compiler on the path.

Usage: python scripts/check_installed.py [arguments for pytest]

What is tested is what a user gets: a folder that holds a compiler is taken off PATH, and nothing is imported from the
checkout but the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cl", "clang-cl", "nvcc")
SETTINGS = ("CC", "CXX", "CUDA_HOME", "CUDA_PATH", "PYTHONPATH", "PYTEST_ADDOPTS")
QUICK = "not slow and not interpreter"

# Run by the interpreter that has the package: where it comes from, that the extension loads, that the versions agree.
LOOK = """
import importlib.metadata, sysconfig
from pathlib import Path
import spotfast
from spotfast import backends

version = importlib.metadata.version("spotfast")
folder = Path(spotfast.__file__).parent
if folder.parent not in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:
    raise SystemExit(f"spotfast is imported from {folder}, not from this environment's packages")
if version != spotfast.__version__:
    raise SystemExit(f"the wheel is of version {version}, spotfast says {spotfast.__version__}")
backends.native()
print(f"spotfast {version} in {folder}, C++ extension: {backends.native_isa()}")
"""


def main(arguments: list[str]) -> int:
    """Look at the installed package, then run its tests; return pytest's exit status."""
    environment = without_compilers(os.environ)
    python = [sys.executable, "-P"]  # nothing is imported from the current folder
    with tempfile.TemporaryDirectory() as folder:
        look = subprocess.run([*python, "-c", LOOK], env=environment, cwd=folder, check=False)
        if look.returncode != 0:
            return look.returncode
        tests = [str(ROOT / "tests"), f"--ignore={ROOT / 'tests' / 'kernels'}"]  # `make test-kernels` runs those
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", QUICK, *tests, *arguments]
        return subprocess.run([*python, *pytest], env=environment, cwd=folder, check=False).returncode


def without_compilers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the folders of PATH that hold a compiler, and without what names one."""
    kept = {name: value for name, value in environment.items() if name not in SETTINGS}
    folders = kept.get("PATH", "").split(os.pathsep)
    compilers = {folder: [name for name in COMPILERS if shutil.which(name, path=folder)] for folder in folders}
    for folder, found in compilers.items():
        if found:
            print(f"off the path: {folder} ({', '.join(found)})", flush=True)
    kept["PATH"] = os.pathsep.join(folder for folder in folders if folder and not compilers[folder])
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
