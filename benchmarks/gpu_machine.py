"""What the machine of `gpu_check.py` has: the packages that are needed, and a GPU."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from typing import Any

NEEDED = {
    "building": ("setuptools", "pybind11"),
    "importing and training": ("torch", "numpy", "scipy", "triton"),
    "the tests": ("pytest", "numba", "tqdm", "narwhals"),
}
OLDEST_SETUPTOOLS = 77  # of pyproject.toml, where pip does not look: it builds without isolation
NOT_NEEDED = ("safetensors", "platformdirs", "filelock")  # here; users have them: saved models, data sets


def describe(device: bool) -> dict[str, Any]:
    """Return what the numbers depend on; the device, too, for which torch must be imported."""
    names = [*(name for group in NEEDED.values() for name in group), *NOT_NEEDED]
    found = {"python": platform.python_version(), **{name: _version(name) for name in names}}
    if device and importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            found |= {"device": properties.name, "memory GiB": round(properties.total_memory / 2**30, 1)}
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def missing() -> list[str]:
    """Return what cannot be done without packages that are not installed, or too old, a line each."""
    lines = []
    for purpose, names in NEEDED.items():
        lines += [f"{name} is missing, which {purpose} need" for name in names if _version(name) == "missing"]
    setuptools = _version("setuptools")
    if setuptools != "missing" and int(setuptools.partition(".")[0]) < OLDEST_SETUPTOOLS:
        lines.append(f"setuptools {setuptools} is too old: building needs {OLDEST_SETUPTOOLS} or newer")
    return lines + [f"{name} is missing; nothing here needs it" for name in NOT_NEEDED if _version(name) == "missing"]
