"""The engines that can run an operation, and the choice between them.

- `native`: the C++ extension, compiled for any CPU and, on x86-64, once more for AVX2 and FMA;
- `numba`: Numba, parallel over users;
- `triton`: Triton kernels, on CUDA devices (and on the CPU in Triton's interpreter, for tests), compiled ahead of time
  or when they are first called;
- `reference`: plain PyTorch and numpy, on any device. All others are tested against it.

Environment:
    SPOTFAST_ISA=baseline   use the extension's build for any CPU where the CPU has AVX2 and FMA, too.
    SPOTFAST_BACKEND=reference   use the reference for every operation that is not asked to run elsewhere.
    SPOTFAST_AOT=0|1|require     what Triton kernels run from: see `spotfast.cuda.choice`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
from types import ModuleType, TracebackType

import torch

from spotfast import threads, validation
from spotfast.cuda import choice, jit
from spotfast.cuda.functions import KernelMissingError
from spotfast.warnings import slow_once

REINSTALL = "SPOTFAST_REQUIRE_EXT=1 pip install --force-reinstall --no-deps ."  # in a checkout

# What may run each operation, best first, by the type of the device that holds the tensors.
OPERATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "philox": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
    "permutation": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
    "negatives": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
    "bilinear": {"cpu": ("reference",), "cuda": ("triton", "reference")},
    "factorization_epoch": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
    "pooling_epoch": {"cpu": ("native", "reference"), "cuda": ("reference",)},
    "mixture_scores": {"cpu": ("native", "reference"), "cuda": ("reference",)},
    "sequence_loss": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
    "row_update": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
    "windows": {"cpu": ("native", "reference")},
    "item_rows": {"cpu": ("native", "reference")},
    "scores": {"cpu": ("native", "reference"), "cuda": ("reference",)},
    "ranks": {"cpu": ("numba", "reference")},
    "topk": {"cpu": ("numba", "reference")},
    "vector_ranks": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
    "vector_topk": {"cpu": ("native", "reference"), "cuda": ("triton", "reference")},
}


def choose(operation: str, device: torch.device | str = "cpu", backend: str = "auto") -> str:
    """Return the backend that runs `operation` for tensors on `device`.

    A `PerformanceWarning` says once, with the reason, that kernels are left out on a CUDA device.

    Args:
        operation: a key of `OPERATIONS`.
        device: where the tensors are.
        backend: "auto" (the best one available) or a name.

    Raises:
        ValueError: for a backend that does not exist for this operation.
        RuntimeError: for a backend that is named but cannot run here; the message says why.
    """
    device = torch.device(device)
    if backend == "auto":
        chosen = best(operation, device)
        if device.type == "cuda" and chosen == "reference" and not _is_reference_wanted():
            reason = missing(_candidates(operation, device)[0], device)
            if reason is not None:  # there are kernels
                slow_once(f"operations on CUDA devices run on their reference, in plain PyTorch: {reason}")
        return chosen
    known = {name for names in OPERATIONS[operation].values() for name in names}
    validation.choice("backend", backend, ["auto", *sorted(known)])
    reason = missing(backend, device)
    if reason is not None:
        raise RuntimeError(f"backend {backend!r} cannot run {operation} on {device}: {reason}")
    return backend


def best(operation: str, device: torch.device) -> str:
    """Return what `choose` takes where no backend is named."""
    if _is_reference_wanted():
        return "reference"
    return next(name for name in _candidates(operation, device) if missing(name, device) is None)


def _candidates(operation: str, device: torch.device) -> tuple[str, ...]:
    return OPERATIONS[operation].get(device.type, ("reference",))


def _is_reference_wanted() -> bool:
    preferred = os.environ.get("SPOTFAST_BACKEND", "auto")
    return validation.choice("SPOTFAST_BACKEND", preferred, ["auto", "reference"]) == "reference"


class FallingBack:
    """A block that runs kernels; if one cannot, what comes after the block runs: the reference.

    Kernels that were compiled ahead of time serve common types and sizes. Where nothing compiles others, that shows
    when they are launched. What changes its arguments must launch in a `spotfast.kernels.launch.rehearsal` first.

    Args:
        operation: a key of `OPERATIONS`.
        backend: what the caller asked for.

    Raises:
        KernelMissingError: if that was not "auto".
    """

    def __init__(self, operation: str, backend: str) -> None:
        self._operation, self._backend = operation, backend

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if self._backend != "auto" or not isinstance(error, KernelMissingError):
            return False
        slow_once(f"{self._operation} runs on its reference, in plain PyTorch: {error}", stacklevel=4)
        return True


def missing(backend: str, device: torch.device) -> str | None:
    """Return why `backend` cannot run on `device` here, or None if it can."""
    if backend == "reference":
        return None
    if backend == "triton":
        return _triton_missing(device)
    if device.type != "cpu":
        return f"it runs on the CPU, the tensors are on {device}"
    if backend == "numba":
        return _numba_missing()
    return _load_native()[1]


def native() -> ModuleType:
    """Return the C++ extension: the build for this CPU."""
    module, reason = _load_native()
    if module is None:
        raise RuntimeError(reason)
    return module


def native_isa() -> str | None:
    """Return the instruction set of the extension in use: "avx2", "baseline", or None without the extension."""
    module = _load_native()[0]
    if module is None:
        return None
    return "avx2" if module.__name__.endswith("avx2") else "baseline"


def num_threads() -> int:
    """Return how many threads an operation uses."""
    return threads.get_num_threads()


@functools.cache
def _load_native() -> tuple[ModuleType | None, str | None]:
    try:
        module = importlib.import_module("spotfast._native")
    except ImportError as error:
        return None, f"the C++ extension is missing ({error}): install a C++ compiler, then in a checkout: {REINSTALL}"
    isa = os.environ.get("SPOTFAST_ISA", "auto")
    validation.choice("SPOTFAST_ISA", isa, ["auto", "baseline"])
    if isa == "auto" and module.cpu_has_avx2_fma():
        # An AVX2 build that does not load leaves the other one, which gives the same results; `doctor` says so.
        with contextlib.suppress(ImportError):
            module = importlib.import_module("spotfast._native_avx2")
    return module, None


def _numba_missing() -> str | None:
    try:
        importlib.import_module("numba")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "numba":
            return "numba is not installed: pip install numba"
        return f"numba cannot be imported ({error}): pip install --upgrade numba"
    return None


def _triton_missing(device: torch.device) -> str | None:
    if device.type == "cuda":
        return choice.missing(device)
    if importlib.util.find_spec("triton") is None:
        return jit.NOT_INSTALLED
    if os.environ.get("TRITON_INTERPRET") != "1":
        return f"it runs on CUDA devices, the tensors are on {device}"
    return None
