"""The vectors that anyone's model may expose, instead of predictions: checked, and multiplied to scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops.scores import pair_scores

Vectors = tuple[Tensor, Tensor | None, Tensor, Tensor | None]  # users (U, D), biases (U,), items (I, D), biases (I,)


@dataclass(frozen=True)
class VectorTables:
    """Vectors of all users and items, whose products, plus biases, are the scores: float32, contiguous, on one device.

    Attributes:
        user_vectors: (U, D).
        user_biases: (U,), or None.
        item_vectors: (I, D).
        item_biases: (I,), or None.
        num_bytes: the memory that they take beyond what they were made from.
    """

    user_vectors: Tensor
    user_biases: Tensor | None
    item_vectors: Tensor
    item_biases: Tensor | None
    num_bytes: int = 0

    @classmethod
    def of_model(cls, model: Any) -> VectorTables:
        """Ask a model with `user_vectors()` and `item_vectors()`, and perhaps `user_biases()` and `item_biases()`.

        The tables are where those of the users are, if there are kernels for ranking, else on the CPU.

        Raises:
            ValueError: for arrays of other shapes than (U, D), (I, D), (U,) or (U, 1), and (I,) or (I, 1).
            TypeError: for what holds no real numbers.

        Example:
            >>> class Model:
            ...     def user_vectors(self):
            ...         return [[1.0, 0.0]]
            ...     def item_vectors(self):
            ...         return np.eye(2)
            >>> VectorTables.of_model(Model()).pairs(np.array([0, 0]), np.array([0, 1]))
            array([1., 0.], dtype=float32)
        """
        user_vectors, of_users = _vectors(model, "user_vectors")
        device = user_vectors.device
        item_vectors, of_items = _vectors(model, "item_vectors", device)
        if user_vectors.shape[1] != item_vectors.shape[1]:
            raise ValueError(
                f"item_vectors() must return vectors of the dimension of user_vectors(), {user_vectors.shape[1]}, "
                f"got {item_vectors.shape[1]}"
            )
        user_biases, of_user_biases = _biases(model, "user_biases", len(user_vectors), device)
        item_biases, of_item_biases = _biases(model, "item_biases", len(item_vectors), device)
        copied = of_users + of_items + of_user_biases + of_item_biases
        return cls(user_vectors, user_biases, item_vectors, item_biases, copied)

    def of(self, users: NDArray[np.int64]) -> Vectors:
        """Return what the scores of some users for all items are computed from."""
        index = torch.from_numpy(users).to(self.user_vectors.device)
        biases = None if self.user_biases is None else self.user_biases[index]
        return self.user_vectors[index], biases, self.item_vectors, self.item_biases

    def pairs(self, users: NDArray[np.integer[Any]], items: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Score pairs of users and items, (P,) each.

        Raises:
            ValueError: for ids beyond the tables.
        """
        validation.check_id_range("user_ids", users, len(self.user_vectors), "the number of user_vectors")
        validation.check_id_range("item_ids", items, len(self.item_vectors), "the number of item_vectors")
        device = self.user_vectors.device
        index = [torch.from_numpy(ids.astype(np.int64)).to(device) for ids in (users, items)]
        tables = self.user_vectors, self.user_biases, self.item_vectors, self.item_biases
        return pair_scores(*tables, *index).cpu().numpy()


def exposes_vectors(model: Any) -> bool:
    """Tell whether a model has the methods that `VectorTables.of_model` needs."""
    return all(callable(getattr(model, name, None)) for name in ("user_vectors", "item_vectors"))


def ranking_device(device: torch.device) -> torch.device:
    """Return where vectors are ranked that are on a device: there, if there are kernels, else on the CPU."""
    return torch.device("cpu") if backends.choose("vector_topk", device) == "reference" else device


def _vectors(model: Any, name: str, device: torch.device | None = None) -> tuple[Tensor, int]:
    table, copied = _numbers(name, getattr(model, name)(), device)
    if table.ndim != 2:
        raise ValueError(f"{name}() must return an array of shape (N, D), got shape {tuple(table.shape)}")
    if table.numel() == 0:
        raise ValueError(f"{name}() must return at least one vector of at least one number, got {tuple(table.shape)}")
    return table, copied


def _biases(model: Any, name: str, count: int, device: torch.device) -> tuple[Tensor | None, int]:
    method = getattr(model, name, None)
    values = None if method is None else method()
    if values is None:
        return None, 0
    biases, copied = _numbers(name, values, device)
    if biases.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"{name}() must return an array of shape ({count},), one for each vector, got shape {tuple(biases.shape)}"
        )
    return biases.reshape(count), copied


def _numbers(name: str, values: Any, device: torch.device | None) -> tuple[Tensor, int]:
    """Return a contiguous float32 tensor on a device, by default where it is ranked, and its bytes if it is a copy."""
    tensor = values.detach() if isinstance(values, Tensor) else _from_array(name, values)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}() must return real numbers, got dtype {tensor.dtype}")
    table = tensor.to(device or ranking_device(tensor.device), torch.float32).contiguous()
    shared = table.data_ptr() == (values.ctypes.data if isinstance(values, np.ndarray) else tensor.data_ptr())
    return table, 0 if shared else table.nbytes


def _from_array(name: str, values: Any) -> Tensor:
    array = validation.rectangular(f"{name}()", values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}() must return real numbers, got dtype {array.dtype}")
    # torch knows no strides below zero and no memory that must not be written to.
    return torch.from_numpy(validation.writable(np.ascontiguousarray(array, np.float32)))
