"""What the host reads of a tensor once: on a CUDA device, it waits for all work before."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Generic, TypeVar

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

T = TypeVar("T")


class ReadOnce(Generic[T]):
    """A function of a tensor that is called once for each, and again where the tensor has changed: torch counts that.

    Args:
        read: the function.
    """

    def __init__(self, read: Callable[[Tensor], T]) -> None:
        self._read = read
        self._known: MutableMapping[Tensor, tuple[int, T]] = WeakIdKeyDictionary()

    def __call__(self, tensor: Tensor) -> T:
        """Return what is read of the tensor."""
        if tensor.is_inference():  # torch counts no changes of these
            return self._read(tensor)
        known = self._known.get(tensor)
        if known is None or known[0] != tensor._version:
            known = tensor._version, self._read(tensor)
            self._known[tensor] = known
        return known[1]
