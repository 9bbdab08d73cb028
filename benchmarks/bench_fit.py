"""`fit` on the autograd path against the best plain PyTorch loop of the same algorithm, and against Spotlight's loop.

The plain loop is timed twice in every turn, as two candidates: how far these two are apart is the noise of the
comparison. Spotlight's loop is there for information.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import harness
import numpy as np
import shapes
import torch
from torch import Tensor, nn

from spotfast import losses
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

DIM, SLOTS, LEARNING_RATE = 32, 5, 1e-2
FLOOR = 1.0
EPOCHS, TURNS = 3, 21
TOLERANCE = 0.01  # between the epochs' losses, beyond three standard errors: orders and negatives differ
CHECKED_SEEDS = range(1, 5)
LOSSES = ("bpr", "adaptive_hinge", "regression")

Losses = list[float]  # one per epoch


class Tables(nn.Module):
    """Vectors and biases of users and items, initialised as the models' are."""

    def __init__(self, data: Interactions) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(data.num_users, DIM), nn.Embedding(data.num_items, DIM)
        self.user_biases, self.item_biases = nn.Embedding(data.num_users, 1), nn.Embedding(data.num_items, 1)
        for vectors in (self.users, self.items):
            nn.init.normal_(vectors.weight, std=1 / DIM)
        for biases in (self.user_biases, self.item_biases):
            nn.init.zeros_(biases.weight)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs."""
        products = (self.users(users) * self.items(items)).sum(1)
        return products + self.user_biases(users).squeeze(1) + self.item_biases(items).squeeze(1)


def tensors(data: Interactions) -> tuple[Tensor, Tensor, Tensor]:
    users, items = (torch.from_numpy(ids.astype(np.int64)) for ids in (data.user_ids, data.item_ids))
    return users, items, torch.from_numpy(data.ratings)


def slots_of(loss: str) -> int:
    return {"bpr": 1, "adaptive_hinge": SLOTS, "regression": 0}[loss]


def plain(data: Interactions, loss: str, batch_size: int, epochs: int, seed: int = 0) -> Losses:
    """Train as an expert would write it: rows gathered once, negatives drawn per epoch, losses read per epoch."""
    torch.manual_seed(seed)
    net, slots = Tables(data), slots_of(loss)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=True)
    users, items, ratings = tensors(data)
    rng = np.random.default_rng(seed)
    history = []
    for _ in range(epochs):
        order = torch.randperm(len(users))
        candidates = items[order].unsqueeze(1)
        if slots:
            negatives = torch.from_numpy(rng.integers(0, data.num_items, (len(users), slots)))
            candidates = torch.cat([candidates, negatives], 1)
        epoch = []
        columns = users[order], candidates, ratings[order]
        for batch in zip(*(column.split(batch_size) for column in columns), strict=True):
            optimizer.zero_grad()
            value = plain_loss(net, loss, *batch)
            value.backward()
            optimizer.step()
            epoch.append(value.detach())
        history.append(torch.stack(epoch).mean().item())
    return history


def plain_loss(net: Tables, loss: str, users: Tensor, candidates: Tensor, ratings: Tensor) -> Tensor:
    flat = candidates.flatten()
    vectors = net.items(flat).view(*candidates.shape, DIM)
    scores = (net.users(users).unsqueeze(1) * vectors).sum(2) + net.item_biases(flat).view(candidates.shape)
    scores = scores + net.user_biases(users)
    positive, negatives = scores[:, 0], scores[:, 1:]
    if loss == "regression":
        return ((ratings - positive) ** 2).mean()
    if loss == "bpr":
        return (1 - torch.sigmoid(positive - negatives[:, 0])).mean()
    return torch.clamp(negatives.max(1).values - positive + 1, min=0).mean()


def spotlight(data: Interactions, loss: str, batch_size: int, epochs: int, seed: int = 0) -> Losses:
    """Train as Spotlight does: the network called twice, negatives drawn and the loss read at every step."""
    torch.manual_seed(seed)
    net, slots = Tables(data), slots_of(loss)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, fused=False)
    random = np.random.RandomState(seed)
    history = []
    for _ in range(epochs):
        order = random.permutation(len(data))
        columns = tensors(data.take(order))
        epoch = []
        for users, items, ratings in zip(*(column.split(batch_size) for column in columns), strict=True):
            positive = net(users, items)
            if loss == "regression":
                value = losses.regression_loss(ratings, positive)
            else:
                # Unlike Spotlight, which mixes up users here, slot by slot: at the same cost.
                drawn = torch.from_numpy(random.randint(0, data.num_items, len(users) * slots, np.int64))
                negatives = net(users.repeat(slots), drawn).view(slots, -1)
                function = losses.bpr_loss if loss == "bpr" else losses.adaptive_hinge_loss
                value = function(positive, negatives[0] if loss == "bpr" else negatives)
            optimizer.zero_grad()
            epoch.append(value.item())
            value.backward()
            optimizer.step()
        history.append(float(np.mean(epoch)))
    return history


def library(data: Interactions, loss: str, batch_size: int, epochs: int, seed: int = 0) -> Losses:
    common = {"embedding_dim": DIM, "n_iter": epochs, "batch_size": batch_size, "learning_rate": LEARNING_RATE}
    common["random_state"] = seed
    if loss == "regression":
        model = ExplicitFactorizationModel(loss, **common)
    else:
        model = ImplicitFactorizationModel(loss, **common, num_negative_samples=SLOTS, negatives="uniform")
    model.fit(data)
    return model.history.losses


def make(quick: bool) -> Interactions:
    """Ratings that depend on the user and the item."""
    count, rng = 10_000 if quick else 80_000, np.random.default_rng(0)
    shape = shapes.MOVIELENS_100K
    data = shapes.interactions(shape, count, rng)
    effects = rng.normal(0, 0.5, shape.users)[data.user_ids] + rng.normal(0, 0.5, shape.items)[data.item_ids]
    data.ratings = np.clip(np.rint(3.5 + effects + rng.normal(0, 0.9, count)), 1, 5).astype(np.float32)
    return data


def check(name: str, got: Callable[..., Losses], others: list[Callable[..., Losses]]) -> None:
    """Compare the losses of the epochs, means over some seeds; this warms everything up, too."""
    curves = np.array([[train(seed=seed) for seed in CHECKED_SEEDS] for train in (got, *others)])  # [.., seed, epoch]
    means, variances = curves.mean(axis=1), curves.var(axis=1, ddof=1)
    for mean, variance in zip(means[1:], variances[1:], strict=True):
        error = np.sqrt((variances[0] + variance) / len(CHECKED_SEEDS))
        agreed = np.abs(means[0] - mean) <= TOLERANCE * mean + 3 * error
        harness.require(bool(agreed.all()), f"{name}: the losses of the epochs are {means[0]} instead of {mean}")


def noise_of(control: list[float], again: list[float]) -> float:
    """Return two standard errors of the median of ratios, estimated from a candidate against itself."""
    deviation = 1.48 * np.median(np.abs(np.divide(control, again) - 1))
    return float(2 * 1.25 * deviation / np.sqrt(len(control)))


def measure(quick: bool) -> Iterator[harness.Case]:
    data = make(quick)
    for loss in LOSSES:
        for batch_size in (1024, 256):
            name = f"{loss}, batch {batch_size}"
            arguments = data, loss, batch_size, 1 if quick else EPOCHS
            ours, best, theirs = (partial(train, *arguments) for train in (library, plain, spotlight))
            check(name, ours, [best, theirs])
            first, fit, second, slow = harness.alternate([best, ours, best, theirs], 2 if quick else TURNS)
            yield harness.ratio(f"{name}: plain loop against itself", first, second, None)
            # `fit` runs between the two turns of the plain loop, whose mean meets the same speed of the machine.
            plain_mean = list(np.mean([first, second], axis=0))
            yield harness.ratio(f"{name}: plain loop", plain_mean, fit, FLOOR, noise_of(first, second))
            yield harness.ratio(f"{name}: Spotlight's loop", slow, fit, None)


if __name__ == "__main__":
    harness.run(measure)
