"""Models to ask for recommendations, and what a sort of their predictions recommends: of several files of tests."""

from __future__ import annotations

import numpy as np
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.layers import BloomEmbedding
from spotfast.sequence.implicit import ImplicitSequenceModel

USERS, ITEMS, DIM = 40, 60, 5
K = 7


def by_sorting(scores, k, excluded=None, candidates=None):
    """Python's sort is stable: of equal scores, the lower id comes first."""
    left = np.ones(scores.shape, bool) if excluded is None else ~np.asarray(excluded, bool)
    if candidates is not None:
        left &= np.isin(np.arange(scores.shape[1]), candidates)
    ids, best = np.full((len(scores), k), -1), np.full((len(scores), k), -np.inf, np.float32)
    for number, row in enumerate(scores.tolist()):
        order = sorted(np.flatnonzero(left[number]).tolist(), key=lambda item, row=row: -row[item])[:k]
        ids[number, : len(order)], best[number, : len(order)] = order, scores[number, order]
    return ids, best


def same(result, expected):
    for array, other in zip(result, expected, strict=True):
        np.testing.assert_array_equal(array, other, strict=True)


def interactions(count=400, seed=0, **arguments):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, USERS, count), rng.integers(0, ITEMS, count)
    sizes = {"num_users": USERS, "num_items": ITEMS}
    return Interactions(*ids, rng.integers(1, 6, count).astype(np.float32), **sizes, **arguments)


class Towers(torch.nn.Module):
    """Anyone's network: no product of vectors."""

    def __init__(self):
        super().__init__()
        self.users, self.items = torch.nn.Embedding(USERS, DIM), torch.nn.Embedding(ITEMS, DIM)

    def forward(self, users, items):
        return torch.tanh(self.users(users) + self.items(items)).sum(1)


def bloom_net():
    layers = [BloomEmbedding(size, DIM, compression_ratio=0.5) for size in (USERS, ITEMS)]
    return BilinearNet(USERS, ITEMS, DIM, *layers)


def normal(model, std=0.5, seed=0):
    """Give a model weights that are far enough from zero to tell items apart."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model._net.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model


def implicit(data=None, **arguments):
    model = ImplicitFactorizationModel(n_iter=0, embedding_dim=DIM, random_state=0, **arguments)
    model.fit(interactions() if data is None else data)
    return normal(model)


def explicit(loss):
    model = ExplicitFactorizationModel(loss, n_iter=0, embedding_dim=DIM, random_state=0)
    model.fit(interactions())
    return normal(model, std=4.0)  # large enough for links to saturate


FACTORIZATION = {
    "implicit": implicit,
    "bloom": lambda: implicit(representation=bloom_net()),
    "custom": lambda: implicit(representation=Towers()),
    "regression": lambda: explicit("regression"),
    "poisson": lambda: explicit("poisson"),
    "logistic": lambda: explicit("logistic"),
}


def sequential(representation, **arguments):
    rng = np.random.RandomState(3)
    data = SequenceInteractions(rng.randint(1, ITEMS, (50, 6)), num_items=ITEMS)
    model = ImplicitSequenceModel(
        representation=representation, n_iter=0, embedding_dim=DIM, random_state=0, **arguments
    )
    model.fit(data)
    return normal(model)


def check_similar(method, vectors, first=0):
    """Against similarities in float64, which may order two items differently only if they are as good as equal."""
    exact = {"dot": vectors.astype(np.float64) @ vectors.T.astype(np.float64)}
    lengths = np.sqrt(np.diag(exact["dot"]))
    exact["cosine"] = exact["dot"] / np.maximum(np.outer(lengths, lengths), 1e-300)
    asked = np.array([5, 1, 5, len(vectors) - 1])
    for metric, table in exact.items():
        ids, found = method(asked, K, metric=metric)
        out = np.zeros(table.shape, bool)
        out[np.arange(len(table)), np.arange(len(table))] = True
        out[:, :first] = True
        _, expected = by_sorting(table[asked], K, out[asked])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(table[asked], ids, 1), expected, rtol=1e-5, atol=1e-6)
        assert not (ids == asked[:, np.newaxis]).any()
        assert ids.min() >= first
        same(method(5, K, metric), (ids[0], found[0]))
    same(method(5, K), method(5, K, "cosine"))
