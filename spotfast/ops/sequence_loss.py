"""The loss of sampled negatives over the steps of sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops import native_sequence_loss
from spotfast.ops.table_gradients import table_gradient
from spotfast.reference import sequence_loss as reference

LOSSES = ("pointwise", "bpr", "hinge", "adaptive_hinge")
DTYPES = {"native": (torch.float32,), "triton": (torch.float32, torch.bfloat16)}  # of states and tables


def sequence_loss(
    states: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    positives: Tensor,
    negatives: Tensor,
    mask: Tensor,
    loss: str,
    *,
    sparse: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Mean loss of the items that follow at every step of every sequence, against sampled negatives.

        score(b, t, i) = states[b, :, t] . item_vectors[i] + item_biases[i]
        loss = sum over b, t of mask[b, t] * l(score of the positive, scores of the negatives) / sum(mask)

    with l as in `spotfast.losses`; 0 for an empty mask. Can be differentiated, once but for the reference, in the
    states and in both tables. No tensor has both axes n and D: the negatives of a step are read one after the other,
    and only the highest of several has a gradient. Where the mask is 0, only the reference reads states and tables.

    Sums are in float32, in a fixed order: same inputs, same bits. Mixtures of tastes score by another formula, that of
    `spotfast.ops.mixture_scores`: their losses are computed from these scores, by `spotfast.losses`.

    Args:
        states: float tensor of shape (B, D, L), users before each step, with B, D and L at least 1. It is taken as
            built-in networks return it; where D is not contiguous in memory, as in `CNNNet`, it is copied.
        item_vectors: float tensor of shape (I, D).
        item_biases: float tensor of shape (I, 1).
        positives: int64 or int32 tensor of shape (B, L), values in [0, I).
        negatives: int64 or int32 tensor of shape (n, B, L), n at least 1, and 1 but for adaptive hinge; values in
            [0, I). On the CPU, ids out of range raise an IndexError. Kernels do not check them, which would make every
            step wait for the device.
        mask: bool, int or float tensor of shape (B, L), values at least 0.
        loss: "pointwise", "bpr", "hinge" or "adaptive_hinge".
        sparse: whether gradients of the tables are sparse, not coalesced, as those of `torch.nn.Embedding`.
        backend: "auto", "native" (for float32), "triton" (for float32 and bfloat16) or "reference".

    Returns:
        A scalar tensor: float32, or float64 for such states.

    Raises:
        ValueError: for an unknown loss, and for shapes that do not fit each other, naming the argument.
        TypeError: for tensors of other dtypes.
        RuntimeError: for tensors on several devices, for a backend that cannot run, and from the backward pass of
            backend "native" with `create_graph=True`.

    Example:
        >>> ids = torch.ones(1, 2, dtype=torch.int64)
        >>> tables = torch.zeros(3, 4), torch.zeros(3, 1)
        >>> sequence_loss(torch.zeros(1, 4, 2), *tables, ids, ids.unsqueeze(0), ids > 0, "hinge")
        tensor(1.)
    """
    validation.choice("loss", loss, LOSSES)
    tensors = {"states": states, "item_vectors": item_vectors, "item_biases": item_biases}
    ids = {"positives": positives, "negatives": negatives}
    _check_shapes({**tensors, **ids, "mask": mask}, loss)
    _check_kinds(tensors, ids, mask)
    unfit = _unfit(tensors, backend)
    if unfit is not None:
        raise RuntimeError(f"backend {backend!r} cannot run sequence_loss: {unfit}")
    engine = backends.choose("sequence_loss", states.device, backend)
    if engine != "reference" and _unfit(tensors, engine) is None:
        steps = states.transpose(1, 2)
        if steps.stride(2) != 1:
            steps = steps.contiguous()
        inputs = (steps, item_vectors, item_biases, positives, negatives, mask)
        if engine == "native":
            return native_sequence_loss.sequence_loss(*inputs, loss, sparse)
        with backends.FallingBack("sequence_loss", backend):
            value: Tensor = _sequence_loss(*inputs, loss, sparse, backend)[0]
            return value
    return reference.sequence_loss(states, item_vectors, item_biases, positives, negatives, mask, loss, sparse=sparse)


def _check_shapes(tensors: dict[str, Tensor], loss: str) -> None:
    states, negatives = tensors["states"], tensors["negatives"]
    if states.dim() != 3 or 0 in states.shape:
        raise ValueError(f"states must be of shape (B, D, L), all at least 1, got {tuple(states.shape)}")
    B, D, L = states.shape
    if tensors["item_vectors"].dim() != 2 or tensors["item_vectors"].shape[1] != D:
        raise ValueError(f"item_vectors must be of shape (I, {D}), got {tuple(tensors['item_vectors'].shape)}")
    if negatives.dim() != 3 or len(negatives) == 0:
        raise ValueError(f"negatives must be of shape (n, {B}, {L}), n >= 1, got {tuple(negatives.shape)}")
    if loss != "adaptive_hinge" and len(negatives) != 1:
        raise ValueError(f"negatives must be one per step for loss {loss!r}, shape (1, {B}, {L}), got {len(negatives)}")
    expected = {
        "item_biases": (len(tensors["item_vectors"]), 1),
        "positives": (B, L),
        "negatives": (len(negatives), B, L),
        "mask": (B, L),
    }
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} must be of shape {shape}, got {tuple(tensors[name].shape)}")


def _unfit(floats: dict[str, Tensor], engine: str) -> str | None:
    """Return why an engine cannot take such tensors, or None."""
    dtypes = DTYPES.get(engine)
    if dtypes is None:
        return None
    allowed = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    wrong = ((name, tensor.dtype) for name, tensor in floats.items() if tensor.dtype not in dtypes)
    return next((f"{name} is {dtype}, not {allowed}" for name, dtype in wrong), None)


def _check_kinds(floats: dict[str, Tensor], ids: dict[str, Tensor], mask: Tensor) -> None:
    device = floats["states"].device
    for name, tensor in {**floats, **ids, "mask": mask}.items():
        if tensor.device != device:
            raise RuntimeError(f"{name} must be on the device of states, {device}, got {tensor.device}")
        if name in floats and not tensor.is_floating_point():
            raise TypeError(f"{name} must be a float tensor, got {tensor.dtype}")
        if name in ids and tensor.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must be int64 or int32, got {tensor.dtype}")


# The ops behind it are not for users: the kernels, with states (B, L, D), and what they hand on to their backward pass.


@torch.library.custom_op(
    "spotfast::sequence_loss",
    mutates_args=(),
    schema="(Tensor steps, Tensor item_vectors, Tensor item_biases, Tensor positives, Tensor negatives, Tensor mask, "
    "str loss, bool sparse, str backend) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _sequence_loss(
    steps: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    positives: Tensor,
    negatives: Tensor,
    mask: Tensor,
    loss: str,
    sparse: bool,
    backend: str,
) -> tuple[Tensor, ...]:
    """Return the loss, the negative of each step that it looks at, score gradients (2, B, L), and sum(mask)."""
    from spotfast.kernels import sequence_loss as kernels

    return kernels.forward(steps, item_vectors, item_biases, positives, negatives, mask, loss)


@_sequence_loss.register_fake
def _(
    steps: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    positives: Tensor,
    negatives: Tensor,
    mask: Tensor,
    loss: str,
    sparse: bool,
    backend: str,
) -> tuple[Tensor, ...]:
    B, L, _ = steps.shape
    scalars = [steps.new_empty((), dtype=torch.float32) for _ in range(2)]
    return scalars[0], negatives.new_empty(B, L), steps.new_empty(2, B, L, dtype=torch.float32), scalars[1]


@torch.library.custom_op(
    "spotfast::sequence_loss_backward",
    mutates_args=(),
    schema="(Tensor upstream, Tensor total, Tensor steps, Tensor item_vectors, Tensor positives, Tensor chosen, "
    "Tensor coefficients, ScalarType rows_dtype, str backend) -> (Tensor, Tensor, Tensor)",
)
def _backward(
    upstream: Tensor,
    total: Tensor,
    steps: Tensor,
    item_vectors: Tensor,
    positives: Tensor,
    chosen: Tensor,
    coefficients: Tensor,
    rows_dtype: torch.dtype,
    backend: str,
) -> tuple[Tensor, ...]:
    """Return the gradients of states, and of item rows (2 B L, D) and biases (2 B L, 1): positives, then chosen."""
    from spotfast.kernels import sequence_loss as kernels

    arguments = (upstream, total, steps, item_vectors, positives, chosen, coefficients, rows_dtype)
    with backends.FallingBack("sequence_loss", backend):
        return kernels.backward(*arguments)
    return reference.row_gradients(*arguments)


@_backward.register_fake
def _(
    upstream: Tensor,
    total: Tensor,
    steps: Tensor,
    item_vectors: Tensor,
    positives: Tensor,
    chosen: Tensor,
    coefficients: Tensor,
    rows_dtype: torch.dtype,
    backend: str,
) -> tuple[Tensor, ...]:
    B, L, D = steps.shape
    rows = steps.new_empty(2 * B * L, D, dtype=rows_dtype)
    return steps.new_empty(B, L, D), rows, coefficients.new_empty(2 * B * L, 1)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    steps, item_vectors, item_biases, positives, _, _, _, ctx.sparse, ctx.backend = inputs
    _, chosen, coefficients, total = output
    ctx.bias_dtype = item_biases.dtype
    ctx.mark_non_differentiable(chosen, coefficients, total)
    ctx.save_for_backward(total, steps, item_vectors, positives, chosen, coefficients)


def _gradients(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    total, steps, item_vectors, positives, chosen, coefficients = ctx.saved_tensors
    # Rows to be summed keep float32; those of sparse gradients must have the dtype of their table.
    rows_dtype = item_vectors.dtype if ctx.sparse else torch.float32
    of_steps, rows, biases = _backward(
        upstream, total, steps, item_vectors, positives, chosen, coefficients, rows_dtype, ctx.backend
    )
    ids = torch.cat([positives.reshape(-1), chosen.reshape(-1)])
    tables = ((rows, item_vectors.dtype), (biases, ctx.bias_dtype))
    gradients = [table_gradient(table, ids, len(item_vectors), dtype, ctx.sparse) for table, dtype in tables]
    return of_steps, *gradients, None, None, None, None, None, None


_sequence_loss.register_autograd(_gradients, setup_context=_setup_context)
