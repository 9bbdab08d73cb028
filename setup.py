"""Builds the C++ extension twice: for any CPU, and for x86-64 CPUs with AVX2 and FMA.

`spotfast.backends` picks one of them at run time.

Environment:
    SPOTFAST_CUDA_TARGETS="80;90"   the wheel carries the CUDA kernels, compiled for these compute capabilities (8.0 and
                             9.0): that needs triton and torch, no GPU; without it, Triton compiles kernels when they
                             are first called.
    SPOTFAST_BUILD_JOBS=4    how many files or kernels are compiled at a time; without it, as many as there are cores.
    SPOTFAST_REQUIRE_EXT=1   a failed compilation is an error (continuous integration, release builds); without it
                             the package installs without the extension and runs on its reference implementations.
"""

import gzip
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

SOURCES = sorted(str(path) for path in Path("csrc").glob("*.cpp"))
HEADERS = sorted(str(path) for path in Path("csrc").glob("*.h"))
WINDOWS = platform.system() == "Windows"
ALL_CUDA_TARGETS = ("80", "86", "89", "90", "100", "120")  # as in spotfast/cuda/build.py, whose import takes torch
KERNEL_COMPILER = ["triton>=3.3", "torch>=2.6", "numpy>=1.26"]  # what importing the kernels takes
X86_64 = platform.machine().lower() in ("x86_64", "amd64")

# No contraction: a product and a sum are two roundings on every CPU, so both builds and the reference agree to the bit.
# /Brepro, no dates in files, and the prefix map, no folders: the same bytes whenever and wherever they are built.
PORTABLE_FLAGS = ["/O2", "/fp:precise", "/Brepro"] if WINDOWS else [
    "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra",
    f"-ffile-prefix-map={os.getcwd()}=.",
]  # fmt: skip
LINK_FLAGS = ["/Brepro"] if WINDOWS else ["-pthread"]
LIBRARIES = ["dl"] if sys.platform == "linux" else []  # in older C libraries a library of its own
AVX2_FLAGS = ["-mavx2", "-mfma", "-mprfchw"]  # the last is no operation where a CPU does not know it


def cuda_targets() -> str:
    """Return SPOTFAST_CUDA_TARGETS; a wrong one ends the build here, before what compiles kernels is fetched."""
    given = os.environ.get("SPOTFAST_CUDA_TARGETS", "").strip()
    names = {name.strip() for name in given.split(";")} - {""}
    if given and not (names and names <= set(ALL_CUDA_TARGETS)):
        wrong = ", ".join(map(repr, sorted(names - set(ALL_CUDA_TARGETS)))) or "none"
        raise SystemExit(f"SPOTFAST_CUDA_TARGETS must be some of {';'.join(ALL_CUDA_TARGETS)}, got {wrong}")
    if given and platform.system() != "Linux":
        raise SystemExit(f"SPOTFAST_CUDA_TARGETS is for wheels for Linux: there is no triton for {platform.system()}")
    return given


def build_jobs() -> int:
    """Return SPOTFAST_BUILD_JOBS, 0 for as many as there are cores."""
    given = os.environ.get("SPOTFAST_BUILD_JOBS", "").strip() or "0"
    if not (given.isascii() and given.isdigit()):
        raise SystemExit(f"SPOTFAST_BUILD_JOBS must be a whole number of at least 0, got {given!r}")
    return int(given)


CUDA_TARGETS, BUILD_JOBS = cuda_targets(), build_jobs()


def extension(name: str, isa_flags: list[str]) -> Pybind11Extension:
    """Return one build of the extension."""
    return Pybind11Extension(
        f"spotfast.{name}",
        SOURCES,
        depends=HEADERS,
        define_macros=[("SPOTFAST_MODULE", name)],
        extra_compile_args=PORTABLE_FLAGS + isa_flags,
        extra_link_args=LINK_FLAGS,
        libraries=LIBRARIES,
        cxx_std=17,
        optional=os.environ.get("SPOTFAST_REQUIRE_EXT") != "1",
    )


class BuildExt(build_ext):
    """Gives each extension its own folder of object files: both are compiled from the same sources."""

    def build_extension(self, ext: Pybind11Extension) -> None:
        """Compile and link one extension."""
        shared = self.build_temp
        self.build_temp = str(Path(shared) / ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared


class BuildPy(build_py):
    """Compiles the CUDA kernels, from the files that the wheel will hold."""

    def run(self) -> None:
        """Copy the Python files, then compile."""
        super().run()
        if self.editable_mode:
            if CUDA_TARGETS:
                raise SystemExit("SPOTFAST_CUDA_TARGETS is for wheels: an editable installation compiles as it runs")
            return
        root = Path(self.build_lib).resolve()
        folder = root / "spotfast" / "cuda" / "compiled"
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        if CUDA_TARGETS:
            command = [sys.executable, "-m", "spotfast.cuda.build", CUDA_TARGETS, str(folder)]
            command += ["--jobs", str(BUILD_JOBS)] if BUILD_JOBS else []
            path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
            done = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": path}, check=False)
            if done.returncode != 0:
                raise SystemExit(f"the CUDA kernels could not be compiled: status {done.returncode}")


class Sdist(sdist):
    """Writes an archive whose bytes depend on the files alone: one time for all, SOURCE_DATE_EPOCH, and no owner."""

    def make_archive(self, base_name: str, format: str, *places: Any, **names: Any) -> str:
        """Pack the folder of the distribution, which is beside it."""
        if format != "gztar":
            return super().make_archive(base_name, format, *places, **names)
        moment = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))

        def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime, member.uid, member.gid, member.uname, member.gname = moment, 0, 0, "", ""
            member.mode = 0o755 if member.mode & 0o100 else 0o644
            return member

        path = f"{base_name}.tar.gz"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", mtime=moment, fileobj=file) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(names["base_dir"], filter=anonymous)
        return path


EXTENSIONS = [extension("_native", [])]
if X86_64 and not WINDOWS:  # there, nothing tells yet whether the CPU has AVX2
    EXTENSIONS.append(extension("_native_avx2", AVX2_FLAGS))

ParallelCompile(default=BUILD_JOBS).install()

setup(
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy, "sdist": Sdist},
    setup_requires=KERNEL_COMPILER if CUDA_TARGETS else [],  # the build's frontend installs them
)
