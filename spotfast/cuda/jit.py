"""Whether Triton can compile kernels when they are first called: what it needs here, and what its assembler makes."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from spotfast.cuda.device import Device

OLDEST_TRITON = (3, 3)
NOT_INSTALLED = "triton is not installed: pip install 'spotfast[triton]'"


def jit_missing(device: Device | None) -> str | None:
    """Return why Triton's compiler cannot run, or not for a device, or None if nothing is known to be in its way.

    Args:
        device: None where there is none to ask about.
    """
    missing = tools_missing()
    if missing is not None or device is None or device.driver == 0:  # no libcuda, as on Windows: nothing is known
        return missing
    return assembler_unfit(device)


@functools.cache  # every call of an operation asks
def tools_missing() -> str | None:
    """Return what Triton's compiler lacks here, or None."""
    if importlib.util.find_spec("triton") is None:
        return NOT_INSTALLED
    try:
        version = importlib.import_module("triton").__version__
    except ImportError as error:
        return f"triton cannot be imported ({error}): pip install --upgrade triton"
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_TRITON:
        oldest = ".".join(map(str, OLDEST_TRITON))
        return f"triton {version} is too old: {oldest} or newer is needed: pip install --upgrade triton"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "triton finds no C compiler: install gcc, or set CC"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "triton needs Python's headers: install python3-dev"
    return None


@functools.cache
def assembler_unfit(device: Device) -> str | None:
    """Return why what Triton's assembler makes does not run on a device, or None if it does.

    Triton brings one ptxas or two of its own, whatever the driver. What ptxas makes needs a driver of its major version
    of CUDA or a later one.
    """
    major, minor = device.capability
    try:
        path = _assembler(10 * major + minor)
        described = _printed(path, "--version")
        known = set(re.findall(r"'(sm_\w+)'", _printed(path, "--help")))
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return f"triton's assembler cannot be run ({error}): pip install --upgrade triton"
    release = re.search(r"\brelease (\d+)\.(\d+)", described)
    if release is None:
        return f"triton's assembler, {path}, does not tell its version"
    name = f"sm_{major}{minor}{'a' * (major >= 9)}"  # what Triton asks it for
    if name not in known:
        return f"triton's assembler, of CUDA {release[1]}.{release[2]}, does not know {name}: install a newer triton"
    too_old = device.too_old_for("triton's assembler", 1000 * int(release[1]))
    return None if too_old is None else f"{too_old}: update it, or install an older triton"


def _assembler(capability: int) -> str:
    """Return the path of the ptxas that Triton takes for a compute capability, times ten."""
    tool = importlib.import_module("triton.backends.nvidia.compiler").get_ptxas(capability)
    return tool[0] if isinstance(tool, tuple) else tool.path  # a pair until triton 3.3


def _printed(path: str, flag: str) -> str:
    return subprocess.run([path, flag], capture_output=True, text=True, check=True, timeout=60).stdout
