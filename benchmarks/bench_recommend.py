"""`recommend` for all users, seen items left out, against `recommend` of implicit with the same factors.

implicit (https://github.com/benfred/implicit) multiplies with BLAS and keeps the best with a heap, in as many threads.
It is optional.
For information, against a sort of all items per user, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

# implicit has threads of its own: BLAS with several in each of them would slow it down, and it warns of that.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import harness
import numpy as np
import peers
import scipy.sparse as sp
import shapes
import torch
from numpy.typing import NDArray

from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

FLOORS = {10: 4.0, 100: 3.0}
DIM = 32
CLOSE = 1e-5  # scores that add up the same products in another order

Lists = tuple[NDArray[Any], NDArray[Any]]


def fit(users: int) -> tuple[ImplicitFactorizationModel, Any]:
    """Return a model without biases, which implicit does not have, and the seen items of some users as CSR."""
    rng = np.random.default_rng(0)
    shape = shapes.MOVIELENS_20M
    user_ids, item_ids = shapes.distinct_pairs(shape, shapes.activity(shape, users, rng), rng)
    seen = Interactions(user_ids, item_ids, num_users=users, num_items=shape.items)
    model = ImplicitFactorizationModel(embedding_dim=DIM, n_iter=0, negatives="uniform", random_state=0)
    model.fit(seen)
    assert model._net is not None
    generator = torch.Generator().manual_seed(0)
    for layer in (model._net.user_embeddings, model._net.item_embeddings):
        torch.nn.init.normal_(layer.weight, std=0.3, generator=generator)
    return model, seen.tocsr()


def same_factors(model: ImplicitFactorizationModel) -> Any:
    """Return a model of implicit with the vectors of ours."""
    from implicit.cpu.als import AlternatingLeastSquares

    assert model._net is not None
    other = AlternatingLeastSquares(factors=DIM, num_threads=torch.get_num_threads())
    other.user_factors = model._net.user_embeddings.weight.detach().numpy()
    other.item_factors = model._net.item_embeddings.weight.detach().numpy()
    return other


def theirs(model: Any, users: NDArray[np.int64], seen: Any, k: int) -> Lists:
    return model.recommend(users, seen, N=k, filter_already_liked_items=True)


def ours(model: ImplicitFactorizationModel, users: NDArray[np.int64], seen: Any, k: int) -> Lists:
    return model.recommend(users, k, exclude=seen)


def check(expected: Lists, got: Lists, model: ImplicitFactorizationModel, seen: Any) -> None:
    """See that the lists are the same but for items with scores that are as good as equal."""
    harness.require(expected[0].shape == got[0].shape, "lists have different shapes")
    harness.require(np.allclose(expected[1], got[1], rtol=CLOSE, atol=CLOSE), "scores differ")
    harness.require(bool((expected[0] == got[0]).mean() > 0.999), "more than a thousandth of the items differ")
    users, items = np.repeat(np.arange(len(got[0])), got[0].shape[1]), got[0].reshape(-1)
    listed = sp.csr_matrix((np.ones(len(items), np.float32), (users, items)), shape=seen.shape)
    harness.require(listed.multiply(seen).nnz == 0, "a seen item is recommended")
    predicted = model.predict(users[:1000], items[:1000])
    harness.require(np.array_equal(predicted, got[1].reshape(-1)[:1000]), "scores are not those of predict")


def sorting(model: ImplicitFactorizationModel, users: NDArray[np.int64], seen: Any, k: int) -> NDArray[Any]:
    """Find the ids as people do without `recommend`: all items sorted, user by user."""
    lists = []
    for user in users:
        scores = model.predict(int(user))
        scores[seen.indices[seen.indptr[user] : seen.indptr[user + 1]]] = -np.inf
        lists.append(np.argsort(-scores, kind="stable")[:k])
    return np.stack(lists)


def measure(quick: bool) -> Iterator[harness.Case]:
    users = 2_000 if quick else shapes.MOVIELENS_20M.users
    model, seen = fit(users)
    everyone = np.arange(users)
    few = everyone[: 20 if quick else 250]
    with_implicit = peers.installed("implicit")
    for k, floor in FLOORS.items():
        name = f"recommend, {seen.shape[1]:,} items, k = {k}"
        mine = partial(ours, model, everyone, seen, k)
        sort = partial(sorting, model, few, seen, k)
        got = mine()
        harness.require(np.array_equal(sort(), got[0][few]), "the lists are not those of a sort")
        slow, fast = harness.alternate([sort, mine], 2 if quick else 3)
        per_user = [[taken / count for taken in times] for times, count in ((slow, len(few)), (fast, users))]
        yield harness.ratio(f"{name}: a sort per user, seconds per user", *per_user, None)
        if with_implicit:
            other = partial(theirs, same_factors(model), everyone, seen, k)
            check(other(), got, model, seen)
            yield harness.ratio(f"{name}: implicit, {users:,} users", *harness.alternate([other, mine], 3), floor)


if __name__ == "__main__":
    harness.run(measure)
