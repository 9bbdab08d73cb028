"""Scores of pairs of a user and an item, differentiable in the tables: lookups, dot product and biases in one pass.

Registered with torch as `spotfast::bilinear`, so that autograd, `torch.compile` and fake tensors know it.
"""

# Annotations are evaluated here: torch reads the operators' signatures from them.

from typing import Any

import torch
from torch import Tensor

from spotfast import backends
from spotfast.ops.table_gradients import table_gradient
from spotfast.reference import bilinear as reference

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


def bilinear(
    user_vectors: Tensor,
    user_biases: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    user_ids: Tensor,
    item_ids: Tensor,
    *,
    sparse: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Scores of several items per user: `user_vectors[u] @ item_vectors[i] + user_biases[u] + item_biases[i]`.

    Once differentiable in the four tables. For tables of float32 and bfloat16 all is computed in float32, sums of the
    gradients of a row that occurs several times too: gradients of bfloat16 are rounded to it once, at the end (those of
    sparse ones before torch sums them). Sums are taken in the same order from run to run.

    Ids are checked on the CPU. On CUDA that would wait for the device at every call: there the Triton backend reads
    nothing for an id out of range and its score is NaN; gradients of that score, NaN as a rule, go to the nearest row.

    Args:
        user_vectors: tensor of shape (U, D), contiguous, not empty: float32, bfloat16 or, on the reference, float64.
        user_biases: tensor of shape (U, 1), of the same dtype and on the same device, contiguous, as all tables.
        item_vectors: tensor of shape (I, D).
        item_biases: tensor of shape (I, 1).
        user_ids: int32 or int64 tensor of shape (B,), values in [0, U).
        item_ids: int32 or int64 tensor of shape (B, C), values in [0, I).
        sparse: gradients of the tables are sparse COO tensors, one row per lookup, as of `torch.nn.Embedding` with
            `sparse=True`. Default: dense.
        backend: "auto", "triton" or "reference".

    Returns:
        Tensor of shape (B, C): float64 for tables of float64, else float32.

    Raises:
        ValueError: for wrong shapes, dtypes, devices or strides, for empty tables, and for ids out of range (on the
            CPU).
        RuntimeError: for a backend that is named but cannot run.

    Example:
        >>> users, items = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
        >>> biases = torch.tensor([[0.5], [0.25]])
        >>> bilinear(users, biases[:1], items, biases, torch.tensor([0]), torch.tensor([[1, 0]]))
        tensor([[17.7500, 12.0000]])
    """
    tables = {
        "user_vectors": user_vectors,
        "user_biases": user_biases,
        "item_vectors": item_vectors,
        "item_biases": item_biases,
    }
    _check_tables(tables)
    _check_ids(user_vectors.device, user_ids, item_ids)
    return _scores(*tables.values(), user_ids, item_ids, sparse, backend)


@torch.library.custom_op("spotfast::bilinear", mutates_args=())
def _scores(
    user_vectors: Tensor,
    user_biases: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    user_ids: Tensor,
    item_ids: Tensor,
    sparse: bool,
    backend: str,
) -> Tensor:
    if user_ids.device.type == "cpu":
        _check_range("user_ids", user_ids, len(user_vectors))
        _check_range("item_ids", item_ids, len(item_vectors))
    arguments = (user_vectors, user_biases, item_vectors, item_biases, user_ids, item_ids)
    if _choose(user_vectors, backend) == "triton":
        from spotfast.kernels import bilinear as kernels

        with backends.FallingBack("bilinear", backend):
            return kernels.scores(*arguments)
    return reference.scores(*arguments)


@torch.library.custom_op("spotfast::bilinear_row_gradients", mutates_args=())
def _row_gradients(
    gradient: Tensor, user_vectors: Tensor, item_vectors: Tensor, user_ids: Tensor, item_ids: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """Gradients of the rows that each sample read: of users (B, D), of items (B, C, D), at least float32."""
    arguments = (gradient, user_vectors, item_vectors, user_ids, item_ids)
    if _choose(user_vectors, backend) == "triton":
        from spotfast.kernels import bilinear as kernels

        with backends.FallingBack("bilinear", backend):
            return kernels.row_gradients(*arguments)
    return reference.row_gradients(*arguments)


@_scores.register_fake
def _(
    user_vectors: Tensor,
    user_biases: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    user_ids: Tensor,
    item_ids: Tensor,
    sparse: bool,
    backend: str,
) -> Tensor:
    return user_vectors.new_empty(item_ids.shape, dtype=_wide(user_vectors))


@_row_gradients.register_fake
def _(
    gradient: Tensor, user_vectors: Tensor, item_vectors: Tensor, user_ids: Tensor, item_ids: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    dim = user_vectors.shape[1]
    wide = _wide(user_vectors)
    return (
        user_vectors.new_empty((*user_ids.shape, dim), dtype=wide),
        user_vectors.new_empty((*item_ids.shape, dim), dtype=wide),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    user_vectors, _, item_vectors, _, user_ids, item_ids, ctx.sparse, ctx.backend = inputs
    ctx.save_for_backward(user_vectors, item_vectors, user_ids, item_ids)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    user_vectors, item_vectors, user_ids, item_ids = ctx.saved_tensors
    user_rows, item_rows = _row_gradients(gradient, *ctx.saved_tensors, ctx.backend)
    tables = (
        (user_rows, user_ids, user_vectors),
        (gradient.sum(1, keepdim=True), user_ids, user_vectors),
        (item_rows, item_ids, item_vectors),
        (gradient.unsqueeze(-1), item_ids, item_vectors),
    )
    needed = ctx.needs_input_grad[: len(tables)]
    gradients = [
        table_gradient(rows, ids, len(table), table.dtype, ctx.sparse) if need else None
        for (rows, ids, table), need in zip(tables, needed, strict=True)
    ]
    return (*gradients, None, None, None, None)


_scores.register_autograd(_backward, setup_context=_save)


def _wide(table: Tensor) -> torch.dtype:
    """The dtype that scores and sums of gradients of this table are computed in."""
    return torch.promote_types(table.dtype, torch.float32)


def _choose(table: Tensor, backend: str) -> str:
    chosen = backends.choose("bilinear", table.device, backend)
    if chosen == "triton" and table.dtype == torch.float64:
        if backend == "triton":
            raise ValueError("user_vectors must be float32 or bfloat16 for backend 'triton', got torch.float64")
        return "reference"
    return chosen


def _check_tables(tables: dict[str, Tensor]) -> None:
    user_vectors = tables["user_vectors"]
    if user_vectors.ndim != 2 or user_vectors.dtype not in DTYPES:
        raise ValueError(
            "user_vectors must be float32, bfloat16 or float64 of shape (U, D), "
            f"got {user_vectors.dtype} of shape {tuple(user_vectors.shape)}"
        )
    items = tables["item_vectors"].shape[0] if tables["item_vectors"].ndim else 0
    dim = user_vectors.shape[1]
    shapes = (user_vectors.shape, (len(user_vectors), 1), (items, dim), (items, 1))
    for (name, table), shape in zip(tables.items(), shapes, strict=True):
        if table.shape != shape or table.dtype != user_vectors.dtype or table.device != user_vectors.device:
            raise ValueError(
                f"{name} must be {user_vectors.dtype} of shape {tuple(shape)} on {user_vectors.device}, "
                f"got {table.dtype} of shape {tuple(table.shape)} on {table.device}"
            )
        if not table.is_contiguous():
            raise ValueError(f"{name} must be contiguous, got strides {table.stride()}")
        if not table.numel():
            raise ValueError(f"{name} must not be empty, got shape {tuple(table.shape)}")


def _check_ids(device: torch.device, user_ids: Tensor, item_ids: Tensor) -> None:
    for name, ids, dims in (("user_ids", user_ids, 1), ("item_ids", item_ids, 2)):
        if ids.ndim != dims or ids.dtype not in (torch.int32, torch.int64) or ids.device != device:
            raise ValueError(
                f"{name} must be int32 or int64 of shape {('(B,)', '(B, C)')[dims - 1]} on {device}, "
                f"got {ids.dtype} of shape {tuple(ids.shape)} on {ids.device}"
            )
    if len(item_ids) != len(user_ids):
        raise ValueError(f"item_ids must have one row per user id, {len(user_ids)}, got {len(item_ids)}")


def _check_range(name: str, ids: Tensor, length: int) -> None:
    if ids.numel():
        low, high = (int(bound) for bound in torch.aminmax(ids))
        if low < 0 or high >= length:
            raise ValueError(f"{name} must be in [0, {length}), got {low if low < 0 else high}")
