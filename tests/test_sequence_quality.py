"""How well sequence models predict: no worse than a plain PyTorch loop of the same networks, over many seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast import losses
from spotfast.cross_validation import user_based_train_test_split
from spotfast.datasets.synthetic import generate_sequential
from spotfast.evaluation import sequence_mrr_score
from spotfast.sequence.implicit import NETWORKS, ImplicitSequenceModel

pytestmark = pytest.mark.slow

SEEDS, OTHER_SEEDS = range(10), range(10, 40)
CONCENTRATIONS = (1e-3, 1e2)  # one item nearly determines the next; nothing does
CHANCE = 0.052  # the mean reciprocal rank among 99 items in random order
ITEMS, LENGTH, STEP, DIM, BATCH, EPOCHS, LEARNING_RATE, SLOTS = 100, 10, 4, 32, 64, 8, 1e-2, 5


def split(concentration, seed):
    data = generate_sequential(100, ITEMS, 10_000, concentration, order=2, random_state=seed)
    parts = user_based_train_test_split(data, random_state=seed)
    return [part.to_sequence(LENGTH, min_sequence_length=LENGTH, step_size=STEP) for part in parts]


def plain(representation, loss, train, seed):
    """Spotlight's algorithm, but that padding is not drawn: states repeated, dense Adam, a draw per batch."""
    torch.manual_seed(seed)
    random = np.random.RandomState(seed)
    net, slots = NETWORKS[representation](ITEMS, DIM), SLOTS if loss == "adaptive_hinge" else 1
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    for _ in range(EPOCHS):
        for batch in torch.from_numpy(random.permutation(train.sequences).astype(np.int64)).split(BATCH):
            states, _ = net.user_representation(batch)
            drawn = torch.from_numpy(random.randint(1, ITEMS, (slots * len(batch), LENGTH), np.int64))
            negative = net(states.repeat(slots, *(1 for _ in states.shape[1:])), drawn).view(slots, *batch.shape)
            value = getattr(losses, f"{loss}_loss")(
                net(states, batch), negative if slots > 1 else negative[0], mask=batch != 0
            )
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    model = ImplicitSequenceModel(representation=net, n_iter=0)
    model.fit(train)
    return model


def ours(representation, loss, train, seed):
    model = ImplicitSequenceModel(
        loss, representation, DIM, EPOCHS, BATCH, learning_rate=LEARNING_RATE, random_state=seed,
        num_negative_samples=SLOTS,
    )  # fmt: skip
    model.fit(train)
    return model


def scores(representation, loss, concentration, seeds):
    """Mean reciprocal ranks, ours and the plain loop's, of every seed."""
    found = []
    for seed in seeds:
        train, test = split(concentration, seed)
        models = [make(representation, loss, train, seed) for make in (ours, plain)]
        found.append([sequence_mrr_score(model, test).mean() for model in models])
    return np.array(found)


def standard_errors_above(found):
    """By how many standard errors ours are better, seed by seed on the same data."""
    difference = found[:, 0] - found[:, 1]
    return difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference)))


@pytest.mark.parametrize("concentration", CONCENTRATIONS)
@pytest.mark.parametrize("representation", list(NETWORKS))
@pytest.mark.parametrize("loss", ImplicitSequenceModel.LOSSES)
def test_predicts_no_worse_than_a_plain_loop(representation, loss, concentration):
    """Among this many comparisons, one or two are below two standard errors by chance: not again on other seeds."""
    found = scores(representation, loss, concentration, SEEDS)
    if concentration == CONCENTRATIONS[0]:
        assert found[:, 0].mean() > 2 * CHANCE
    if standard_errors_above(found) < -2:
        again = scores(representation, loss, concentration, OTHER_SEEDS)
        assert standard_errors_above(again) >= -2, f"{found.mean(axis=0)}, then {again.mean(axis=0)}"
