"""How a network is called for scores: a plain `BilinearNet` for many candidates at once, anyone's pair by pair."""

from __future__ import annotations

from torch import Tensor, nn

from spotfast import hooks
from spotfast.factorization.representations import BilinearNet
from spotfast.network_errors import explain


def is_plain_bilinear(net: nn.Module) -> bool:
    """Tell whether the network is a `BilinearNet` whose `forward` nobody has replaced or hooked into."""
    return type(net) is BilinearNet and "forward" not in vars(net) and not hooks.see_calls_of(net)


def pair_scores(net: nn.Module, users: Tensor, items: Tensor) -> Tensor:
    """Score pairs (B,) of users and items.

    Raises:
        ValueError: if the network does not give one score per pair.
    """
    try:
        scores = net(users, items)
    except Exception as error:
        explain(error, "forward", user_ids=users, item_ids=items)
        raise
    if not isinstance(scores, Tensor) or scores.numel() != users.numel():
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"representation must return scores of shape ({len(users)},), got {got}")
    return scores if scores.ndim == 1 else scores.reshape(len(users))


def candidate_scores(net: nn.Module, users: Tensor, candidates: Tensor) -> tuple[Tensor, ...]:
    """Score a positive and n negatives per user.

    Args:
        net: the network.
        users: int64 tensor of shape (B,).
        candidates: int64 tensor of shape (B, 1 + n), the positive in the first column.

    Returns:
        Scores (B,) of each column of the candidates.
    """
    if isinstance(net, BilinearNet) and is_plain_bilinear(net):
        return net.score_candidates(users, candidates).unbind(1)  # not slices, whose gradients are added up
    slots = candidates.shape[1] - 1
    negatives = candidates[:, 1:].T.reshape(-1)  # slot by slot, so that the users repeat as a whole
    positive = pair_scores(net, users, candidates[:, 0])
    return positive, *pair_scores(net, users.repeat(slots), negatives).view(slots, -1).unbind(0)
