"""The memory of CUDA devices: too little of it is an error that says what is needed, what is free and what lowers it.

What is known beforehand is compared with what is free before anything is allocated (`require`); where torch's
allocator finds no memory later on, its error is raised again in the same terms (`explained`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from spotfast.memory import readable

FOR_TABLES = (
    "A smaller embedding_dim, an optimizer that keeps less (torch.optim.SGD, spotfast.optim.RowwiseAdagrad) or "
    'device="cpu" lowers this'
)
FOR_TRAINING = (
    "A smaller batch_size or embedding_dim, an optimizer that keeps less (torch.optim.SGD, "
    'spotfast.optim.RowwiseAdagrad) or device="cpu" lowers this'
)
FOR_BATCHES = "A smaller batch_size lowers this"
FOR_PREDICTIONS = 'Predict for fewer users, sequences or items at once, or after model.to("cpu")'
FOR_LISTS = 'A smaller memory_budget (as memory_budget="100MB") or a model on the CPU lowers this'
FOR_SIMILAR = "Ask for fewer at once, or a model on the CPU"
FOR_SCORES = "spotfast.evaluation.evaluate takes a memory_budget that lowers this, and so does a model on the CPU"


class DeviceMemoryError(torch.cuda.OutOfMemoryError):
    """A device has too little memory: how much is needed, how much is free, and which setting lowers it."""


def room(device: torch.device) -> tuple[int, int] | None:
    """Return how many bytes can be allocated on a CUDA device, and how many it has; None for any other device."""
    if device.type != "cuda":
        return None
    free, capacity = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + cached, capacity


def require(device: torch.device, needed: Mapping[str, int], remedy: str) -> None:
    """Raise if a CUDA device has less memory than is needed.

    Args:
        device: where; on any other than CUDA devices nothing is checked.
        needed: bytes, by what they are for.
        remedy: what lowers this, a sentence without a full stop.

    Raises:
        DeviceMemoryError: naming all of that.
    """
    found = room(device)
    if found is not None and sum(needed.values()) > found[0]:
        raise too_little(device, needed, remedy)


def too_little(device: torch.device, needed: Mapping[str, int], remedy: str) -> DeviceMemoryError:
    """Return the error that `require` raises."""
    total, found = sum(needed.values()), room(device)
    message = f"{device} has too little memory: {readable(total)} are needed{_parts(needed)}{_free(found)}"
    if found is not None and total > found[1]:
        message += f", and the whole device has {readable(found[1])}"
    return DeviceMemoryError(f"{message}. {remedy}")


@contextmanager
def explained(device: torch.device, doing: str, taken: Callable[[], Mapping[str, int]], remedy: str) -> Iterator[None]:
    """In the block, an error of torch's allocator is raised as one that says what to do about it.

    Args:
        device: where.
        doing: what the block does, as "training".
        taken: tells the bytes of what the model has, by what they are for.
        remedy: what lowers this, a sentence without a full stop.

    Raises:
        DeviceMemoryError: from the error.
    """
    try:
        yield
    except DeviceMemoryError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        model = taken()
        asked = str(error).partition(". GPU ")[0]  # what follows is about other processes, and the allocator
        raise DeviceMemoryError(
            f"{device} has too little memory for {doing}: {asked}. The model takes {readable(sum(model.values()))}"
            f"{_parts(model)}{_free(room(device))}. {remedy}"
        ) from error


@contextmanager
def explained_for(model: Any, doing: str, remedy: str) -> Iterator[None]:
    """`explained`, for a model of ours or of anyone's, of which torch alone can tell where it is.

    Args:
        model: who is asked.
        doing: what the block does, as "the recommendations".
        remedy: what lowers this, a sentence without a full stop.

    Raises:
        DeviceMemoryError: from the error.
    """
    if hasattr(model, "_bytes_taken"):
        with explained(model.device, doing, model._bytes_taken, remedy):
            yield
        return
    try:
        yield
    except DeviceMemoryError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        asked = str(error).partition(". Including")[0]  # what follows is about other processes, and the allocator
        raise DeviceMemoryError(f"Too little memory for {doing}: {asked}. {remedy}") from error


def moved(net: nn.Module, device: torch.device, further: Mapping[str, int]) -> nn.Module:
    """Return a network on a device; if that fails, it stays where it was.

    Args:
        net: all on one device.
        device: where it is to be.
        further: bytes that are needed there beside its weights, by what they are for.

    Raises:
        DeviceMemoryError: for too little memory.
    """
    needed = {"weights": weight_bytes(net), **further}
    origin = next((parameter.device for parameter in net.parameters()), device)
    if origin.type != device.type or device.index not in (None, origin.index):  # "cuda" is any
        require(device, needed, FOR_TABLES)
    try:
        with explained(device, "the model", lambda: needed, FOR_TABLES):
            return net.to(device)
    except Exception:
        net.to(origin)
        raise


def weight_bytes(net: nn.Module) -> int:
    """Return the size of a network: parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))


def _free(found: tuple[int, int] | None) -> str:
    return "" if found is None else f", {readable(found[0])} are free"


def _parts(sizes: Mapping[str, int]) -> str:
    """Return the parts of a sum in brackets."""
    return f" ({', '.join(f'{name} {readable(size)}' for name, size in sizes.items() if size)})"
