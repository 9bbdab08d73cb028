"""How a sequence network is called: a built-in one with as little work as the loss allows, anyone's as documented."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from spotfast import hooks
from spotfast.network_errors import explain
from spotfast.sequence.representations import CNNNet, LSTMNet, MixtureLSTMNet, PoolNet, SequenceNet

BUILT_IN = (PoolNet, LSTMNet, CNNNet, MixtureLSTMNet)
METHODS = {"forward", "user_representation", "score_candidates"}


def is_built_in(net: nn.Module) -> TypeGuard[SequenceNet]:
    """Tell whether the network is one of ours whose methods nobody has replaced or hooked into."""
    return type(net) in BUILT_IN and not METHODS.intersection(vars(net)) and not hooks.see_calls_of(net)


def represent(net: nn.Module, sequences: Tensor) -> tuple[Tensor, Tensor]:
    """Represent sequences (B, L) by the states before each item (B, ...) and the final states (B, ...).

    Raises:
        ValueError: naming the output that does not have one row per sequence.
    """
    try:
        represented: Any = net.user_representation(sequences)  # type: ignore[operator]
    except Exception as error:
        explain(error, "user_representation", sequences=sequences)
        raise
    if not isinstance(represented, tuple | list) or len(represented) != 2:
        raise ValueError(
            f"representation must return a pair (states, final) from user_representation, got {_kind(represented)}"
        )
    for name, output in zip(("states", "final"), represented, strict=True):
        if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(sequences):
            raise ValueError(
                f"representation must return {name} of shape ({len(sequences)}, ...), one row per sequence, "
                f"got {_kind(output)}"
            )
    return represented[0], represented[1]


def target_scores(net: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """Score targets (B, L), each from the state before it.

    Raises:
        ValueError: if the network does not give one score per target. Dimensions of size one may be missing.
    """
    try:
        scores: Any = net(states, targets)
    except Exception as error:
        explain(error, "forward", states=states, targets=targets)
        raise
    if not isinstance(scores, Tensor) or scores.squeeze().shape != targets.squeeze().shape:
        raise ValueError(f"representation must return scores of shape {tuple(targets.shape)}, got {_kind(scores)}")
    return scores.reshape(targets.shape)


def training_scores(net: nn.Module, sequences: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Score, at every step of every sequence, the item that follows and the negatives that the loss looks at.

    Several negatives are for the adaptive hinge loss, which looks at the highest score only, so that all others have
    no gradient. With a built-in network they are compared without one, and only the highest is returned.

    Args:
        net: the network.
        sequences: int64 tensor of shape (B, L).
        negatives: int64 tensor of shape (B, L, n).

    Returns:
        Scores of the items that follow (B, L) and of the negatives (n, B, L), or (1, B, L) for the highest alone.

    Raises:
        ValueError: for outputs of wrong shapes, and for scores without a gradient.
    """
    states, _ = represent(net, sequences)
    if is_built_in(net):
        if negatives.shape[2] > 1:
            negatives = _hardest(net, states, negatives)
        if isinstance(net, MixtureLSTMNet):  # here, one call with two columns is faster than two calls
            scores = net.score_candidates(states, torch.cat([sequences.unsqueeze(2), negatives], dim=2))
            return scores[..., 0], scores[..., 1:].permute(2, 0, 1)
    positive = target_scores(net, states, sequences)
    if not positive.requires_grad:
        raise ValueError(
            "representation must return scores that have a gradient, got a tensor with requires_grad=False"
        )
    slots = negatives.shape[2]
    if slots > 1:
        states = states.repeat(slots, *(1 for _ in states.shape[1:]))
    drawn = negatives.permute(2, 0, 1).reshape(-1, sequences.shape[1])  # slot by slot, as states repeat
    return positive, target_scores(net, states, drawn).view(slots, *sequences.shape)


@torch.no_grad()
def _hardest(net: SequenceNet, states: Tensor, negatives: Tensor) -> Tensor:
    """Return the negative with the highest score of the n at every step: (B, L, 1) of (B, L, n)."""
    best = net.score_candidates(states, negatives).argmax(dim=2, keepdim=True)
    return negatives.gather(2, best)


def _kind(output: Any) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
