"""How a fitted sequence network scores the items that may come next, outside training.

The built-in networks represent sequences in batches of one size, the last filled up with padding. In batches of one
shape, a row has the same bits wherever it is and whatever is beside it (a test holds every network to that); in
batches of different shapes it need not. Items are scored from their vectors (`spotfast.ops.scores`). So a sequence
and an item always have the same score, to the bit. Anyone's network is called for one sequence at a time, for blocks
of all items, with the same effect.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spotfast.inference import all_vectors, biases_of, evaluating
from spotfast.ops import scores as dots
from spotfast.sequence.calling import is_built_in, represent, target_scores
from spotfast.sequence.representations import MixtureLSTMNet, SequenceNet
from spotfast.sequence_interactions import PADDING_IDX

BATCH = 16  # sequences represented at once: more is little faster, and makes a single prediction slower
MIXTURE_FLOATS = 1 << 20  # scores of single tastes in work at a time ...
MIXTURE_COPIES = 4  # ... and so many times as much with all that follows from them
CALLED_ITEMS = 1 << 18  # items per call of someone's network


class Scorer(Protocol):
    """Scores of sequences for items, on the network's device. Padding scores minus infinity."""

    def states(self, sequences: Tensor) -> Tensor:
        """Represent sequences (N, L) by their final states (N, ...)."""
        ...

    def scores(self, states: Tensor, items: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Score final states (N, ...) for items (I,), or for all: float32 of shape (N, I), in `out` if given."""
        ...

    @property
    def num_bytes(self) -> int:
        """The memory in use beyond that of the network, but for states and rows of scores."""
        ...


def make_scorer(net: nn.Module, num_items: int) -> Scorer:
    """Return the fastest scorer that serves this network, for the items 0 .. num_items - 1."""
    if is_built_in(net) and all(parameter.dtype == torch.float32 for parameter in net.parameters()):
        return MixtureScorer(net, num_items) if isinstance(net, MixtureLSTMNet) else VectorScorer(net, num_items)
    return CallingScorer(net, num_items)


def item_tables(scorer: Scorer) -> tuple[Tensor, Tensor] | None:
    """Return the vectors (I, D) and biases (I,) of all items, if a score is a final state's product with one of them.

    Mixtures score by vectors, too, but not by one product each.
    """
    return scorer._items(None) if type(scorer) is VectorScorer else None


class VectorScorer:
    """Scores by the dot product of a final state (N, D) and an item's vector, plus the item's bias."""

    def __init__(self, net: SequenceNet, num_items: int) -> None:
        def lookup(items: Tensor) -> Tensor:
            return net.item_embeddings(items.unsqueeze(0)).reshape(len(items), -1)

        self._net = net
        with evaluating(net):
            every = torch.arange(num_items, device=next(net.parameters()).device)
            self._vectors, self._made_bytes = all_vectors(net.item_embeddings, lookup, every)
            self._biases = biases_of(net.item_biases, every)
            self._biases[PADDING_IDX] = -torch.inf

    def states(self, sequences: Tensor) -> Tensor:
        """Represent sequences."""
        filled = F.pad(sequences, (0, 0, 0, -len(sequences) % BATCH), value=PADDING_IDX)
        with evaluating(self._net):
            finals = [represent(self._net, rows)[1] for rows in filled.split(BATCH)]
            return torch.cat(finals)[: len(sequences)]

    def scores(self, states: Tensor, items: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Score final states for items."""
        vectors, biases = self._items(items)
        return dots.scores(states, None, vectors, biases, out=out)

    @property
    def num_bytes(self) -> int:
        """Vectors, unless they are the network's; ids, and biases as they are looked up and copied."""
        return self._made_bytes + 24 * len(self._vectors)

    def _items(self, items: Tensor | None) -> tuple[Tensor, Tensor]:
        return (self._vectors, self._biases) if items is None else (self._vectors[items], self._biases[items])


class MixtureScorer(VectorScorer):
    """Scores by tastes u_m and attentions a_m, the halves of a final state (N, 2M, D, 1), and an item's vector e.

    `sum_m softmax_m(<a_m, e>) <u_m, e> + bias`
    """

    def scores(self, states: Tensor, items: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Score final states for items."""
        vectors, biases = self._items(items)
        if out is None:
            out = torch.empty(len(states), len(vectors), device=states.device)
        width = max(1, MIXTURE_FLOATS // states.shape[1])  # items at once
        size = max(1, width // len(vectors))  # states at once
        for rows, mixed in zip(states.split(size), out.split(size), strict=True):
            parts = (tensor.split(width, dim=-1) for tensor in (vectors.T, biases, mixed))
            for some_vectors, some_biases, some_mixed in zip(*parts, strict=True):
                some_mixed.copy_(_mixed(rows, some_vectors.T) + some_biases)
        return out

    @property
    def num_bytes(self) -> int:
        """Scores of single tastes, too, their weights, products and sums."""
        return super().num_bytes + MIXTURE_COPIES * 4 * MIXTURE_FLOATS


def _mixed(states: Tensor, vectors: Tensor) -> Tensor:
    """Score states (N, 2M, D, 1) for items by their vectors (I, D), without biases: (N, I)."""
    flat = states.reshape(-1, vectors.shape[1])
    tastes, attentions = dots.scores(flat, None, vectors, None).view(*states.shape[:2], -1).chunk(2, dim=1)
    weights = torch.exp(attentions - attentions.amax(dim=1, keepdim=True))
    # Sums taste by taste: those of torch depend, in their order and so in their bits, on the number of items.
    zero = torch.zeros_like(weights[:, 0])
    return sum((weights * tastes).unbind(dim=1), start=zero) / sum(weights.unbind(dim=1), start=zero)


class CallingScorer:
    """Scores by calling the network as Spotlight does: a sequence's final state, repeated, beside items (I, 1)."""

    def __init__(self, net: nn.Module, num_items: int) -> None:
        self._net = net
        self._num_items = num_items

    def states(self, sequences: Tensor) -> Tensor:
        """Represent sequences."""
        with evaluating(self._net):
            return torch.cat([represent(self._net, sequence)[1] for sequence in sequences.split(1)])

    def scores(self, states: Tensor, items: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Score final states for items."""
        width = self._num_items if items is None else len(items)
        if out is None:
            out = torch.empty(len(states), width, device=states.device)
        for state, row in zip(states.split(1), out, strict=True):
            if items is None:
                self._fill(row, state)
            else:
                every = torch.empty(self._num_items, device=state.device)
                self._fill(every, state)
                row.copy_(every[items])
        return out

    def _fill(self, row: Tensor, state: Tensor) -> None:
        """Score all items after one sequence."""
        with evaluating(self._net):
            every = torch.arange(self._num_items, device=state.device).unsqueeze(1)
            for part, items in zip(row.split(CALLED_ITEMS), every.split(CALLED_ITEMS), strict=True):
                part.copy_(target_scores(self._net, state.expand(len(items), *state.shape[1:]), items).flatten())
        row[PADDING_IDX] = -torch.inf

    @property
    def num_bytes(self) -> int:
        """Ids, and scores before they are where they belong; not what is inside the network."""
        return 16 * self._num_items
