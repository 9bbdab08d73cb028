"""Builds the C++ extension twice: for any CPU, and for x86-64 CPUs with AVX2 and FMA.

`spotfast.backends` picks one of them at run time.

Environment:
    SPOTFAST_REQUIRE_EXT=1   a failed compilation is an error (continuous integration, release builds); without it
                             the package installs without the extension and runs on its reference implementations.
"""

import os
import platform
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

SOURCES = sorted(str(path) for path in Path("csrc").glob("*.cpp"))
HEADERS = sorted(str(path) for path in Path("csrc").glob("*.h"))
WINDOWS = platform.system() == "Windows"
X86_64 = platform.machine().lower() in ("x86_64", "amd64")

# No contraction: a product and a sum are two roundings on every CPU, so both builds and the reference agree to the bit.
PORTABLE_FLAGS = ["/O2", "/fp:precise"] if WINDOWS else [
    "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra",
]  # fmt: skip
AVX2_FLAGS = ["-mavx2", "-mfma", "-mprfchw"]  # the last is no operation where a CPU does not know it


def extension(name: str, isa_flags: list[str]) -> Pybind11Extension:
    """Return one build of the extension."""
    return Pybind11Extension(
        f"spotfast.{name}",
        SOURCES,
        depends=HEADERS,
        define_macros=[("SPOTFAST_MODULE", name)],
        extra_compile_args=PORTABLE_FLAGS + isa_flags,
        extra_link_args=[] if WINDOWS else ["-pthread"],
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


EXTENSIONS = [extension("_native", [])]
if X86_64 and not WINDOWS:  # there, nothing tells yet whether the CPU has AVX2
    EXTENSIONS.append(extension("_native_avx2", AVX2_FLAGS))

setup(ext_modules=EXTENSIONS, cmdclass={"build_ext": BuildExt})
