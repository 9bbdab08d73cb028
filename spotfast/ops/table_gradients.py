"""Gradients of embedding tables from those of the rows that were looked up."""

from __future__ import annotations

import torch
from torch import Tensor


def table_gradient(rows: Tensor, ids: Tensor, length: int, dtype: torch.dtype, sparse: bool) -> Tensor:
    """Sum the gradients of each row of a table.

    Dense ones are summed by what `torch.nn.Embedding` sums them with. On CUDA, too, that sorts the ids, where
    `index_add` would add in whatever order the device takes.

    Args:
        rows: float tensor of shape (..., D).
        ids: int32 or int64 tensor of shape (...), values in [0, length). On other devices than the CPU, where nothing
            else looks at them before they become addresses, others are taken for the nearest row.
        length: of the table.
        dtype: of the table.
        sparse: return one row per lookup, not coalesced, as `torch.nn.Embedding` does with `sparse=True`.

    Returns:
        Tensor of shape (length, D), dense or sparse COO.

    Example:
        >>> table_gradient(torch.ones(2, 1), torch.tensor([2, 2]), 3, torch.float32, sparse=False).flatten()
        tensor([0., 0., 2.])
    """
    if ids.device.type != "cpu":
        ids = ids.clamp(0, length - 1)
    if sparse:
        return sparse_gradient(rows.to(dtype), ids, length)
    return torch.ops.aten.embedding_dense_backward(rows, ids, length, -1, False).to(dtype)


def sparse_gradient(rows: Tensor, ids: Tensor, length: int) -> Tensor:
    """Return one row per lookup of a table of `length`, not coalesced: (..., D) and (...), as in `table_gradient`."""
    values = rows.reshape(-1, rows.shape[-1])
    shape = (length, values.shape[1])
    return torch.sparse_coo_tensor(ids.reshape(1, -1).long(), values, shape, check_invariants=False)
