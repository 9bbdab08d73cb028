"""Raw ids and the numbers they become: both ways, through splits, sequences and models, and in saved files."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from spotfast.cross_validation import random_train_test_split, shuffle_interactions, user_based_train_test_split
from spotfast.evaluation import mrr_score, precision_recall_score
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.id_map import IdMap, Ids
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.positives import Positives
from spotfast.sequence.implicit import ImplicitSequenceModel

USERS, ITEMS = 15, 12
LOSSES = [(cls, loss) for cls in (ImplicitFactorizationModel, ExplicitFactorizationModel) for loss in cls.LOSSES]
SAVABLE = {
    "strings": ["", "a", "é", "\ud800", '"'],
    "integers": [-3, 0, 2**62],
    "large integers": [0, 2**64 - 1],
    "huge integers": [1, 10**30],
    "floats": [-0.5, 0.1, 1e300],
    "booleans": [False, True],
    "bytes": [b"", b"\xff"],
    "UUIDs": [uuid.UUID(int=1), uuid.UUID(int=2)],
    "dates": [dt.date(2020, 1, 1), dt.date(9999, 1, 1)],
    "times": [dt.datetime(2020, 1, 1, 2, 3, 4, 5), dt.datetime(2021, 1, 1)],
    "times with a zone": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2021, 1, 1, tzinfo=dt.UTC)],
    "decimals": [Decimal("0.10"), Decimal("0.2")],
    "tuples": [("a", 1, None), ("b", (2.5, b"x"), True)],
    "mixed": ["a", 1, 2.5],
}


def frame(seed=0, count=160):
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, USERS, count), rng.integers(0, ITEMS, count)
    users[:USERS], items[:ITEMS] = np.arange(USERS), np.arange(ITEMS)
    return pl.DataFrame(
        {
            "user_id": [f"user-{user:02}" for user in users],
            "item_id": [f"item-{item:02}" for item in items],
            "stars": rng.integers(1, 6, count).astype(np.float32),
            "when": np.arange(count),
        }
    )


def data(**keywords):
    return Interactions.from_frame(frame(), rating="stars", timestamp="when", **keywords)


def other_map():
    return IdMap(Ids.in_order(range(USERS)), Ids.in_order(range(ITEMS), first=1))


def fitted(cls=ImplicitFactorizationModel, interactions=None, **arguments):
    model = cls(**{"n_iter": 2, "embedding_dim": 4, "batch_size": 32, "random_state": 0, **arguments})
    model.fit(data() if interactions is None else interactions)
    return model


# One kind of ids


@pytest.mark.parametrize("kind", SAVABLE)
@pytest.mark.parametrize("first", [0, 1])
def test_ids_map_both_ways(kind, first):
    raw = SAVABLE[kind]
    ids = Ids.in_order(raw[::-1], first)
    numbers = ids.to_id(list(raw))
    assert numbers.dtype == np.int32
    assert sorted(numbers) == list(range(first, first + len(raw)))
    assert ids.to_raw(numbers).tolist() == raw
    assert all(ids.to_raw(ids.to_id(value)) == value and value in ids for value in raw)
    assert (len(ids), ids.size) == (len(raw), first + len(raw))
    assert ids == Ids.in_order(raw, first) == pickle.loads(pickle.dumps(ids)) == copy.deepcopy(ids)
    assert repr(ids).startswith(f"<Ids ({len(raw)} raw ids from ")


def test_arrays_of_any_shape_keep_it():
    ids = Ids(["a", "b", "c"], first=1)
    table = np.array([[["c"], ["a"]], [["b"], ["b"]]])
    assert ids.to_id(table).tolist() == [[[3], [1]], [[2], [2]]]
    assert ids.to_raw(ids.to_id(table)).shape == (2, 2, 1)
    assert ids.to_raw([[1, 2], [3, 3]]).tolist() == [["a", "b"], ["c", "c"]]
    assert ids.to_id([]).shape == ids.to_raw([]).shape == (0,)
    assert type(ids.to_id("b")) is int
    assert type(Ids([5, 6]).to_raw(np.int64(1))) is int


@pytest.mark.parametrize("series", [pd.Series, pl.Series, pa.array, np.array, list])
def test_columns_of_every_library_become_ids(series):
    assert Ids(["a", "b"]).to_id(series(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert Ids([3, 7]).to_id(series([7, 3, 7])).tolist() == [1, 0, 1]
    assert Ids([dt.date(2020, 1, 1), dt.date(2020, 1, 2)]).to_id(series([dt.date(2020, 1, 2)])).tolist() == [1]


def test_padding_stands_for_nothing():
    ids = Ids(["a", "b"], first=1)
    for padded in (0, [1, 0], [[0, 0]]):
        with pytest.raises(ValueError, match="ids must be at least 1, got 0, which is padding"):
            ids.to_raw(padded)
    assert ids.to_raw([[0, 2], [1, 0]], padding=None).tolist() == [[None, "b"], ["a", None]]
    assert ids.to_raw(0, padding="-") == "-"
    assert ids.to_raw(2, padding="-") == "b"
    assert Ids([7], first=1).to_raw([0, 1], padding=-1).tolist() == [-1, 7]


@pytest.mark.parametrize("ids", [3, -2, [0, 3]])
def test_ids_out_of_range_are_refused(ids):
    with pytest.raises(ValueError, match="ids must"):
        Ids(["a", "b"], first=1).to_raw(ids, padding=None)


def test_unknown_raw_ids_are_counted_and_ten_listed():
    ids = Ids(["a"])
    with pytest.raises(ValueError, match=r"raw must hold known raw ids, got 1 unknown: 'b'$"):
        ids.to_id(["a", "b", "b"])
    with pytest.raises(ValueError, match=r"got 30 unknown: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.$"):
        ids.to_id(list(range(30)))
    with pytest.raises(TypeError, match="hashable"):
        ids.to_id([["a"]])
    assert "b" not in ids


@pytest.mark.parametrize("unknown", ["3", 3.5, 4, -1, 2**63, 10**30, None, np.uint64(2**64 - 1), 2**53 + 0.0])
def test_numbers_are_found_by_value(unknown):
    ids = Ids([3, 5, 2**53 + 1])
    assert ids.to_id([3.0, 5]).tolist() == ids.to_id(np.array([3, 5], np.uint8)).tolist() == [0, 1]
    with pytest.raises(ValueError, match="1 unknown"):
        ids.to_id(unknown)
    with pytest.raises(ValueError, match="1 unknown"):
        ids.to_id([3, unknown])


def test_a_tuple_is_one_raw_id():
    assert Ids([("a", 1), ("b", 2)]).to_id(("b", 2)) == 1


def test_raw_ids_are_distinct_and_numbers_ascend():
    with pytest.raises(ValueError, match="raw must be distinct, got 2 values, 1 distinct"):
        Ids(["a", "a"])
    for raw in ([2, 1], [1, 1], [1.0, np.nan]):
        with pytest.raises(ValueError, match="raw must ascend"):
            Ids(raw)
    with pytest.raises(ValueError, match="read-only"):
        Ids(["a"]).raw[0] = "b"


def test_ids_of_different_kinds_differ():
    assert len({repr(ids) for ids in (Ids([1]), Ids([1.0]), Ids(["1"]), Ids([1], first=1))}) == 4
    assert Ids([1]) != Ids([1.0])
    assert Ids([1]) != Ids([1], first=1)
    assert Ids([1]) != [1]


def test_types_without_an_order_keep_that_of_the_rows():
    raw = [frozenset("b"), frozenset("a"), frozenset("ab")]
    assert Ids.in_order(raw).raw.tolist() == raw


# Interactions


def test_takes_splits_and_sequences_keep_the_map():
    interactions = data()
    assert interactions.id_map.users.raw.tolist() == [f"user-{user:02}" for user in range(USERS)]
    parts = [interactions.take(slice(5)), shuffle_interactions(interactions, 1)]
    parts += [*random_train_test_split(interactions, random_state=1), *user_based_train_test_split(interactions)]
    parts += [
        interactions.to_sequence(3),
        interactions.sequence_windows(3),
        interactions.sequence_windows(3).to_sequence(),
    ]
    for part in [*parts, copy.deepcopy(interactions), pickle.loads(pickle.dumps(interactions))]:
        assert part.id_map == interactions.id_map
    assert Interactions([1], [1], timestamps=[0]).to_sequence().id_map is None
    assert Interactions([1], [1], timestamps=[0]).id_map is None


def test_maps_that_do_not_fit_are_refused():
    interactions = data()
    for size in ("num_users", "num_items"):
        changed = copy.deepcopy(interactions)
        setattr(changed, size, 100)
        with pytest.raises(ValueError, match=f"{size} must be {getattr(interactions, size)}, as in id_map, got 100"):
            changed.check()
    with pytest.raises(ValueError, match="item_ids must be at least 1 with an id_map"):
        Interactions([0], [0], num_users=USERS, num_items=ITEMS + 1, id_map=interactions.id_map)
    with pytest.raises(TypeError, match="id_map must be an IdMap or None, got dict"):
        Interactions([0], [0], id_map={})
    with pytest.raises(ValueError, match="num_items must be 13, as in id_map, got 3"):
        SequenceInteractions([[1, 2]], id_map=interactions.id_map)


# Models


@pytest.mark.parametrize(("cls", "loss"), LOSSES)
def test_padding_is_below_all_items(cls, loss):
    model = fitted(cls, loss=loss)
    scores = model.predict(0)
    assert scores.shape == (ITEMS + 1,)
    assert scores[0] == -np.inf
    assert np.isfinite(scores[1:]).all()
    assert model.predict([0, 3]).tobytes() == np.stack([scores, model.predict(3)]).tobytes()
    assert model.predict(0, np.arange(ITEMS + 1)).tobytes() == scores.tobytes()
    best = np.argsort(-scores)[:ITEMS]
    assert sorted(model.id_map.items.to_raw(best)) == [f"item-{item:02}" for item in range(ITEMS)]


def test_padding_of_anyones_network_is_below_all_items():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.items = torch.nn.Embedding(ITEMS + 1, 1)

        def forward(self, user_ids, item_ids):
            return self.items(item_ids).squeeze(1)

    scores = fitted(representation=Network()).predict([0, 1])
    assert (scores[:, 0] == -np.inf).all()
    assert np.isfinite(scores[:, 1:]).all()


@pytest.mark.filterwarnings("ignore:.* test items are excluded")
def test_ranks_from_vectors_are_those_of_predictions():
    train, test = random_train_test_split(data(), random_state=0)
    model = fitted(interactions=train)

    class Predictions:
        def predict(self, user):
            return model.predict(user)

    with torch.no_grad():
        model._net.item_embeddings.weight[0] = torch.nan  # it has no part in scores
    for excluded in (None, train):
        np.testing.assert_array_equal(mrr_score(model, test, excluded), mrr_score(Predictions(), test, excluded))
        for ours, expected in zip(
            precision_recall_score(model, test, excluded, k=[1, 5, 100]),
            precision_recall_score(Predictions(), test, excluded, k=[1, 5, 100]),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("negatives", ["uniform", "unseen", "popularity"])
@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_padding_is_never_a_negative(negatives, loss):
    """The row of padding does not move, also where somebody has seen every real item."""
    everything = pl.DataFrame({"user_id": ["all"] * ITEMS, "item_id": [f"item-{item:02}" for item in range(ITEMS)]})
    interactions = Interactions.from_frame(pl.concat([frame().select("user_id", "item_id"), everything]))
    net = BilinearNet(interactions.num_users, interactions.num_items, 4)
    before = net.item_embeddings.weight.detach().clone()
    model = ImplicitFactorizationModel(loss, n_iter=3, representation=net, negatives=negatives, random_state=0)
    if negatives == "uniform":
        model.fit(interactions)
    else:
        with pytest.warns(UserWarning, match=f"1 users .* interacted with all {ITEMS} items"):
            model.fit(interactions)
    moved = (net.item_embeddings.weight.detach() != before).any(dim=1)
    assert moved.tolist() == [False] + [True] * ITEMS
    assert net.item_biases.weight[0].item() == 0


def test_padding_is_added_to_every_user():
    positives = Positives.from_interactions(np.array([0, 0, 2]), np.array([3, 1, 2]), 3, 5).with_padding()
    assert positives.indptr.tolist() == [0, 3, 4, 6]
    assert positives.items.tolist() == [0, 1, 3, 0, 0, 2]


def test_models_keep_the_map_of_their_first_fit():
    interactions = data()
    model = ImplicitFactorizationModel(n_iter=1)
    assert model.id_map is None
    model.fit(interactions)
    assert model.id_map is interactions.id_map
    model.fit(data())  # an equal map
    model.fit(Interactions.from_frame(frame(1, 40), id_map=model.id_map))
    sequences = fitted(ImplicitSequenceModel, interactions.to_sequence(4))
    assert sequences.id_map is interactions.id_map
    assert fitted(ImplicitSequenceModel, interactions.sequence_windows(4)).id_map is interactions.id_map
    assert sequences.predict([0, 1])[0] == -np.inf


@pytest.mark.parametrize("cls", [ImplicitFactorizationModel, ExplicitFactorizationModel, ImplicitSequenceModel])
def test_other_maps_than_the_first_are_refused(cls):
    def given(id_map):
        interactions = data()
        interactions.id_map = id_map
        return interactions.to_sequence(4) if cls is ImplicitSequenceModel else interactions

    mapped, plain = fitted(cls, given(data().id_map)), fitted(cls, given(None))
    for model, id_map in ((mapped, other_map()), (mapped, None), (plain, other_map())):
        before = len(model.history)
        with pytest.raises(ValueError, match="interactions must have the id_map of the first fit"):
            model.fit(given(id_map))
        assert len(model.history) == before


def test_a_failed_first_fit_leaves_no_map():
    model = ImplicitFactorizationModel(representation=torch.nn.Linear(1, 1), n_iter=1)
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the network raises)
        model.fit(data())
    assert model.id_map is None


# Saved models


@pytest.mark.parametrize("kind", SAVABLE)
def test_saved_models_know_their_raw_ids(kind, tmp_path):
    ids = IdMap(Ids.in_order(SAVABLE[kind]), Ids.in_order(SAVABLE[kind], first=1))
    count = len(ids.users)
    interactions = Interactions(np.arange(count), 1 + np.arange(count), id_map=ids)
    model = fitted(interactions=interactions)
    model.save(tmp_path / "model")
    loaded = ImplicitFactorizationModel.load(tmp_path / "model")
    assert loaded.id_map == ids
    assert list(map(type, loaded.id_map.users.raw.tolist())) == list(map(type, ids.users.raw.tolist()))
    assert loaded.predict(0).tobytes() == model.predict(0).tobytes()
    loaded.fit(interactions)


def test_saved_sequence_models_know_their_raw_ids(tmp_path):
    model = fitted(ImplicitSequenceModel, data().to_sequence(4))
    model.save(tmp_path / "model")
    assert ImplicitSequenceModel.load(tmp_path / "model").id_map == model.id_map


def test_models_without_a_map_are_loaded_without_one(tmp_path):
    model = fitted(interactions=Interactions([0, 1], [0, 1]))
    model.save(tmp_path / "model")
    assert ImplicitFactorizationModel.load(tmp_path / "model").id_map is None


def test_raw_ids_that_cannot_be_written_down_are_not_lost_silently(tmp_path):
    raw = [frozenset("a"), frozenset("b")]
    ids = IdMap(Ids(raw), Ids(raw, first=1))
    model = fitted(interactions=Interactions([0, 1], [1, 2], id_map=ids))
    with pytest.raises(ValueError, match=r"got frozenset\(.*of type frozenset: make them strings"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    assert pickle.loads(pickle.dumps(model)).id_map == ids
    model.id_map = None
    model.save(tmp_path / "model")
