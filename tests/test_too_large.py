"""What no machine can allocate: the error names the arguments, and the memory that they take."""

from __future__ import annotations

import numpy as np
import pytest

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.layers import BloomEmbedding
from spotfast.memory import allocating
from spotfast.recommendation import iter_recommend
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import PoolNet

LARGEST = 2**31 - 2
DIM = 1_000_000  # with so many items, more bytes than a process has addresses
LENGTHS = [10**15, 10**18, 10**25]  # of lists: no memory, no addresses, no number of NumPy's


@pytest.fixture(scope="module")
def model():
    made = ImplicitFactorizationModel(n_iter=1, random_state=0)
    made.fit(Interactions([0, 1, 1], [1, 2, 0]))
    return made


@pytest.mark.parametrize("k", LENGTHS)
def test_lists(model, k):
    calls = {
        2: lambda: model.recommend([0, 1], k=k),
        1: lambda: model.similar_items(1, k=k),
        3: lambda: next(iter_recommend(model, [0, 1, 1], k=k)),
    }
    for count, call in calls.items():
        with pytest.raises(
            MemoryError,
            match=rf"^k={k}: lists of shape \({count}, {k}\) take {12 * k * count // 10**9} GB, more than can",
        ):
            call()


@pytest.mark.parametrize("cls", [ImplicitFactorizationModel, ExplicitFactorizationModel])
def test_tables_of_factorization_models(cls):
    model = cls(embedding_dim=DIM, random_state=np.random.RandomState(3))
    needed = 4 * (2 + LARGEST + 1) * (DIM + 1) // 10**9 + 1
    message = rf"^num_users=2, num_items={LARGEST + 1}, embedding_dim={DIM}: the tables take {needed} GB, more than can"
    with pytest.raises(MemoryError, match=message):
        model.fit(Interactions([0, 1], [1, LARGEST], ratings=np.ones(2)))
    assert not model._initialized
    assert model._random_state.randint(1 << 30) == np.random.RandomState(3).randint(1 << 30)


def test_tables_of_sequence_models():
    model = ImplicitSequenceModel(embedding_dim=DIM)
    with pytest.raises(MemoryError, match=rf"^num_items={LARGEST + 1}, embedding_dim={DIM}: the tables take "):
        model.fit(SequenceInteractions([[1, LARGEST]]))


@pytest.mark.parametrize(
    "make",
    [
        ImplicitFactorizationModel,
        ImplicitSequenceModel,
        lambda embedding_dim: BilinearNet(2, 3, embedding_dim),
        lambda embedding_dim: PoolNet(3, embedding_dim),
        lambda embedding_dim: BloomEmbedding(30, embedding_dim),
    ],
)
def test_dimensions_are_sizes_as_others(make):
    with pytest.raises(ValueError, match=f"^embedding_dim must be an integer between 1 and {LARGEST}, got {10**12}$"):
        make(embedding_dim=10**12)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^something else$"), allocating("all", 3):
        raise RuntimeError("something else")
