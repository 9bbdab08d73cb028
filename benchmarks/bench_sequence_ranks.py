"""`sequence_mrr_score` against one prediction and one `scipy.stats.rankdata` per sequence, as Spotlight computes it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import harness
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from spotfast.evaluation import sequence_mrr_score
from spotfast.interactions import SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel

ITEMS, LENGTH, DIM = 26_744, 50, 32
FLOOR = 30.0
CLOSE = 2  # places: items whose scores differ in the last bits may be ranked the other way round


def predict(net: Any, sequence: NDArray[Any], num_items: int) -> NDArray[Any]:
    """Predict as Spotlight does: the final state, repeated for every item."""
    with torch.no_grad():
        _, final = net.user_representation(torch.from_numpy(sequence.astype(np.int64)).unsqueeze(0))
        items = torch.arange(num_items).unsqueeze(1)
        return net(final.expand(num_items, *final.shape[1:]), items).numpy().flatten()


def loop(net: Any, test: SequenceInteractions) -> NDArray[Any]:
    """Rank all items sequence by sequence."""
    results = []
    for sequence in test.sequences:
        scores = predict(net, sequence[:-1], test.num_items)
        scores[0] = -np.inf
        results.append(1.0 / rankdata(-scores)[sequence[-1]])
    return np.array(results)


def make(count: int, representation: str) -> tuple[ImplicitSequenceModel, SequenceInteractions]:
    """Make a model with vectors as long as fitted ones, and sequences, a quarter of them half empty."""
    rng = np.random.default_rng(0)
    sequences = rng.integers(1, ITEMS, (count, LENGTH), np.int32)
    sequences[::4, : LENGTH // 2] = 0
    test = SequenceInteractions(sequences, num_items=ITEMS)
    model = ImplicitSequenceModel(representation=representation, embedding_dim=DIM, n_iter=0, random_state=0)
    model.fit(test)
    assert model._net is not None
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(model._net.item_embeddings.weight, std=0.3, generator=generator)
    return model, test


def measure(quick: bool) -> Iterator[harness.Case]:
    for representation, count in (("lstm", 20_000), ("mixture", 2_000)):
        model, test = make(200 if quick else count, representation)
        few = SequenceInteractions(test.sequences[: 20 if quick else 200], num_items=ITEMS)
        expected, got = loop(model._net, few), sequence_mrr_score(model, test)
        difference = np.abs(1 / expected - 1 / got[: len(few)]).max()
        harness.require(bool(difference <= CLOSE), f"ranks differ by up to {difference:.3g}")
        candidates = [partial(loop, model._net, few), partial(sequence_mrr_score, model, test)]
        slow, fast = harness.alternate(candidates, 2 if quick else 5)
        per_1000 = [[1000 * taken / len(data) for taken in times] for data, times in ((few, slow), (test, fast))]
        name = f"sequence_mrr_score, {representation}, 1,000 of {len(test):,} sequences"
        yield harness.ratio(name, *per_1000, FLOOR if representation == "lstm" else None)


if __name__ == "__main__":
    harness.run(measure)
