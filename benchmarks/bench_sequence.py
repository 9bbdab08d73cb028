"""`fit` of sequence models against a plain PyTorch loop that trains the same networks with Spotlight's algorithm.

The plain loop is timed twice in every turn, as two candidates: how far these two are apart is the noise of the
comparison, which counts where no more is asked for than to be as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import harness
import numpy as np
import torch
from bench_fit import noise_of
from torch import Tensor, nn

from spotfast import losses
from spotfast.interactions import SequenceInteractions
from spotfast.ops import negatives
from spotfast.sequence.calling import training_scores
from spotfast.sequence.implicit import ImplicitSequenceModel

ITEMS, MANY_ITEMS, LENGTH, BATCH, SLOTS, LEARNING_RATE = 3_417, 1_000_000, 50, 256, 5, 1e-2
TURNS, TURNS_OF_MANY_ITEMS, TURNS_OF_EQUALS = 9, 3, 25
TOLERANCE = 1e-5  # relative, between the losses of one batch
BATCHES = {ITEMS: 40, MANY_ITEMS: 32}  # of an epoch, after which every row is brought up to date
CASES = (  # representation, loss, items, the least ratio
    ("mixture", "adaptive_hinge", ITEMS, 4.0),
    ("pooling", "adaptive_hinge", ITEMS, 6.0),
    ("cnn", "pointwise", ITEMS, 1.0),
    ("lstm", "pointwise", ITEMS, 1.0),
    ("cnn", "adaptive_hinge", MANY_ITEMS, 8.0),
    ("lstm", "adaptive_hinge", MANY_ITEMS, 8.0),
)


def target_scores(net: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """Score one item per step, (B, L), in the way that follows from the formulas: product by product."""
    vectors = net.item_embeddings(targets).permute(0, 2, 1)  # [B, D, L]
    biases = net.item_biases(targets).squeeze(2)
    if states.ndim == 4:
        tastes, attentions = states.chunk(2, dim=1)  # [B, M, D, L]
        weights = torch.softmax((attentions * vectors.unsqueeze(1)).sum(2), dim=1)
        states = (weights.unsqueeze(2) * tastes).sum(1)
    return (states * vectors).sum(1) + biases


def plain_loss(net: nn.Module, loss: str, sequences: Tensor, drawn: Tensor) -> Tensor:
    """Compute the loss of a batch (B, L) with negatives (n B, L): states repeated n times."""
    states, _ = net.user_representation(sequences)
    positive = target_scores(net, states, sequences)
    if loss == "adaptive_hinge":
        repeated = states.repeat(SLOTS, *(1 for _ in states.shape[1:]))
        negative = target_scores(net, repeated, drawn).view(SLOTS, *sequences.shape)
    else:
        negative = target_scores(net, states, drawn)
    return getattr(losses, f"{loss}_loss")(positive, negative, mask=sequences != 0)


def slots_of(loss: str) -> int:
    return SLOTS if loss == "adaptive_hinge" else 1


class Plain:
    """Spotlight's loop: negatives drawn and the loss read at every step, Adam tensor by tensor."""

    def __init__(self, net: nn.Module, loss: str, data: SequenceInteractions) -> None:
        self._net, self._loss, self._data = net, loss, data
        self._optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=False, foreach=False)
        self._random = np.random.RandomState(0)

    def epoch(self) -> float:
        """Train for an epoch and return the mean loss of its batches."""
        self._net.train()
        order = self._random.permutation(len(self._data))
        sequences = torch.from_numpy(self._data.sequences[order].astype(np.int64))
        epoch = []
        for batch in sequences.split(BATCH):
            shape = len(batch) * slots_of(self._loss), LENGTH
            drawn = torch.from_numpy(self._random.randint(1, self._data.num_items, shape, np.int64))
            self._optimizer.zero_grad()
            value = plain_loss(self._net, self._loss, batch, drawn)
            epoch.append(value.item())
            value.backward()
            self._optimizer.step()
        return float(np.mean(epoch))


def check(net: nn.Module, loss: str, data: SequenceInteractions) -> None:
    """Compare the losses and the gradients of one batch."""
    sequences = torch.from_numpy(data.sequences[:BATCH].astype(np.int64))
    slots = slots_of(loss)
    drawn = negatives.uniform(0, 0, 0, len(sequences), LENGTH * slots, data.num_items, first=1).view(
        *sequences.shape, slots
    )
    positive, negative = training_scores(net, sequences, drawn)
    ours = getattr(losses, f"{loss}_loss")(positive, negative if slots > 1 else negative[0], mask=sequences != 0)
    plain = plain_loss(net, loss, sequences, drawn.permute(2, 0, 1).reshape(-1, LENGTH))
    apart = abs(ours.item() / plain.item() - 1)
    harness.require(apart <= TOLERANCE, f"{loss}: the loss of a batch is {ours.item()} instead of {plain.item()}")
    parameters = list(net.parameters())
    gradients = ([g.to_dense() for g in torch.autograd.grad(each, parameters)] for each in (ours, plain))
    for one, other in zip(*gradients, strict=True):
        difference = ((one - other).norm() / other.norm()).item()
        harness.require(difference <= 100 * TOLERANCE, f"{loss}: a gradient is {difference:.2g} of its size off")


def prepare(representation: str, loss: str, data: SequenceInteractions) -> tuple[Callable[[], object], ...]:
    """Return a function each that trains for an epoch: the plain loop and the library."""
    models = [
        ImplicitSequenceModel(
            loss,
            representation,
            n_iter=1,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            num_negative_samples=SLOTS,
            random_state=0,
        )
        for _ in range(2)
    ]
    for model in models:  # warm from here on, and away from the initial values, which are near zero
        model.fit(data)
    nets = [model._net for model in models]
    check(nets[0], loss, data)
    for layer in (nets[0].item_embeddings, nets[0].item_biases):  # Spotlight's default
        layer.sparse = False
    return Plain(nets[0], loss, data).epoch, lambda: models[1].fit(data)


def make(batches: int, items: int) -> SequenceInteractions:
    """Make sequences in which every item has the same few successors; a quarter of them are half empty."""
    rng = np.random.default_rng(0)
    successors = rng.integers(1, items, (items, 3))
    sequences = np.empty((batches * BATCH, LENGTH), np.int32)
    sequences[:, 0] = rng.integers(1, items, len(sequences))
    for step in range(1, LENGTH):
        sequences[:, step] = successors[sequences[:, step - 1], rng.integers(0, 3, len(sequences))]
    sequences[::4, : LENGTH // 2] = 0
    return SequenceInteractions(sequences, num_items=items)


def measure(quick: bool) -> Iterator[harness.Case]:
    for representation, loss, items, floor in CASES:
        data = make(1 if quick else BATCHES[items], items)
        plain, fit = prepare(representation, loss, data)
        equals = floor == 1.0
        turns = TURNS_OF_EQUALS if equals else TURNS if items == ITEMS else TURNS_OF_MANY_ITEMS
        first, fast, second = harness.alternate([plain, fit, plain], 2 if quick else turns)
        name = f"{representation}, {loss}, {items} items, batch {BATCH} x {LENGTH}"
        yield harness.ratio(f"{name}: plain loop against itself", first, second, None)
        # `fit` runs between the two turns of the plain loop, whose mean meets the same speed of the machine.
        slow = list(np.mean([first, second], axis=0))
        yield harness.ratio(name, slow, fast, floor, noise_of(first, second) if equals else 0.0)


if __name__ == "__main__":
    harness.run(measure)
