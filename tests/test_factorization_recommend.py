"""Recommendations for users are those of a sort of what `predict` gives, for every network and exclusion."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from models_to_ask import FACTORIZATION, ITEMS, USERS, K, by_sorting, explicit, implicit, interactions, same

from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.recommendation import iter_recommend, lists


@pytest.fixture(params=FACTORIZATION)
def model(request):
    return FACTORIZATION[request.param]()


class Constant(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, users, items):
        return self.weight.expand(len(users))


def excluded_as(form, mask, users):
    """One exclusion in every form that there is; `mask` has a row per user of the model."""
    rows, columns = np.nonzero(mask)
    if form == "interactions":
        order = np.random.default_rng(1).permutation(np.repeat(np.arange(len(rows)), 2))  # each twice, in any order
        return Interactions(rows[order], columns[order], num_users=USERS, num_items=ITEMS)
    if form in ("csr_matrix", "csr_array", "coo_matrix"):
        return getattr(sp, form)(mask.astype(np.float32))
    return [np.flatnonzero(mask[user])[::-1].repeat(2).tolist() for user in users]


class TestFactorization:
    users = np.array([3, 39, 0, 3, 17, 8], np.int32)

    @pytest.mark.parametrize("form", [None, "interactions", "csr_matrix", "csr_array", "coo_matrix", "arrays"])
    def test_as_a_sort_of_predictions(self, model, form):
        mask = np.random.default_rng(0).random((USERS, ITEMS)) < 0.4
        mask[39] = True  # everything
        mask[17, 2:] = True  # all but two
        exclude = None if form is None else excluded_as(form, mask, self.users)
        out = np.zeros_like(mask) if form is None else mask
        scores = model.predict(self.users)
        for k in (1, K, ITEMS, ITEMS + 3):
            same(model.recommend(self.users, k, exclude), by_sorting(scores, k, out[self.users]))
        chosen = np.array([50, 4, 4, 31, 0, 9, 2], np.uint16)
        expected = by_sorting(scores, K, out[self.users], chosen)
        same(model.recommend(self.users, K, exclude, chosen), expected)
        same(model.recommend(self.users, K, exclude, item_ids=chosen.reshape(1, -1).tolist()), expected)

    def test_one_user(self, model):
        expected = [array[0] for array in by_sorting(model.predict(5)[np.newaxis], 10)]
        same(model.recommend(5), expected)
        same(model.recommend(np.uint8(5), 10), expected)
        same(model.recommend([5]), [array[np.newaxis] for array in expected])
        top = expected[0][:2].tolist()
        for exclude in (top, [top], np.array(top), interactions().take(slice(0, 0))):
            out = np.zeros((1, ITEMS), bool)
            out[0, top] = not isinstance(exclude, Interactions)
            same(model.recommend(5, 10, exclude), [a[0] for a in by_sorting(model.predict(5)[np.newaxis], 10, out)])

    def test_in_blocks(self, model, monkeypatch):
        users = np.random.default_rng(2).integers(0, USERS, 101)
        exclude = interactions(seed=4)
        whole = model.recommend(users, K, exclude)
        same(whole, by_sorting(model.predict(users), K, exclude.tocsr().toarray()[users] > 0))
        monkeypatch.setattr(lists, "MOST_AT_ONCE", 9)
        monkeypatch.setattr(lists, "ROW_BYTES", 4 * 4 * ITEMS)
        same(model.recommend(users, K, exclude), whole)
        blocks = list(iter_recommend(model, users, K, exclude))
        assert [len(some) for some, _, _ in blocks] == [9] * 11 + [2]
        for number, part in enumerate((users, *whole)):
            np.testing.assert_array_equal(np.concatenate([block[number] for block in blocks]), part, strict=True)

    def test_users_in_a_column(self, model):
        same(model.recommend(self.users[:, np.newaxis], K), model.recommend(self.users.tolist(), K))


@pytest.mark.parametrize("representation", [None, "constant"])
def test_ties_go_to_the_lower_id(representation):
    """By vectors that are all zero, and by a network that says the same of everything."""
    model = implicit(representation=Constant() if representation else None)
    for parameter in model._net.parameters():
        torch.nn.init.zeros_(parameter)
    ids, scores = model.recommend([1, 2], 4, exclude=[[1], [0, 3]])
    assert ids.tolist() == [[0, 2, 3, 4], [1, 2, 4, 5]]
    assert not scores.any()


def test_many_ties():
    model = implicit()
    for parameter in model._net.parameters():
        parameter.data.round_()
    users = np.arange(USERS)
    same(model.recommend(users, 20), by_sorting(model.predict(users), 20))


def test_equal_predictions_of_different_scores_are_ties():
    """The logistic function is 1 for every score above 17: the lower id comes first, though its score may be less."""
    model = explicit("logistic")
    model._net.item_biases.weight.data += 200.0
    ids, scores = model.recommend(0, 5)
    assert ids.tolist() == [0, 1, 2, 3, 4]
    assert scores.tolist() == [1.0] * 5


def test_one_item():
    model = ImplicitFactorizationModel(n_iter=0, negatives="uniform", random_state=0)
    model.fit(Interactions([0, 1], [0, 0]))
    ids, scores = model.recommend([0, 1], 2, exclude=[[], [0]])
    assert ids.tolist() == [[0, -1], [-1, -1]]
    np.testing.assert_array_equal(scores, [[model.predict(0)[0], -np.inf], [-np.inf, -np.inf]])
    assert [array.tolist() for array in model.similar_items(0, 2)] == [[-1, -1], [-np.inf, -np.inf]]


class TestNotANumber:
    def test_of_a_user(self, model):
        if not hasattr(model._net, "user_biases"):
            model._net.users.weight.data[7] = np.nan
        else:
            model._net.user_biases.weight.data[7] = np.nan
        model.recommend([6, 8])
        with pytest.raises(ValueError, match="the prediction of user 7 for item 0 is NaN: it cannot be ranked"):
            model.recommend([6, 7, 8])

    def test_of_an_item(self):
        model = implicit()
        model._net.item_embeddings.weight.data[33, 1] = np.nan
        with pytest.raises(ValueError, match="the prediction of user 4 for item 33 is NaN"):
            model.recommend(4)
        others = np.delete(np.arange(ITEMS), 33)
        scores = np.zeros((1, ITEMS), np.float32)
        scores[0, others] = model.predict(4, others)
        same(model.recommend([4], K, item_ids=others), by_sorting(scores, K, None, others))

    def test_infinities_are_scores(self):
        model = implicit()
        model._net.item_biases.weight.data[[9, 4]] = np.inf
        model._net.item_biases.weight.data[2] = -np.inf
        ids, scores = model.recommend([0, 1], ITEMS)
        assert ids[:, :2].tolist() == [[4, 9]] * 2
        assert ids[:, -1].tolist() == [2, 2]
        assert scores[:, -1].tolist() == [-np.inf] * 2


class TestOwnIds:
    @pytest.fixture
    def model(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame({"user_id": rng.choice(list("abcde"), 60), "item_id": rng.integers(100, 110, 60)})
        return implicit(Interactions.from_frame(frame))

    def test_padding_is_never_recommended(self, model):
        scores = model.predict([0, 1])
        padded = np.zeros(scores.shape, bool)
        padded[:, 0] = True
        for k in (3, 20):
            same(model.recommend([0, 1], k), by_sorting(scores, k, padded))
        same(model.recommend([0, 1], 3, item_ids=[0, 4]), by_sorting(scores, 3, padded, [0, 4]))
        assert model.recommend(0, 2, item_ids=[0])[0].tolist() == [-1, -1]
        assert 0 not in model.similar_items([1, 2], 20)[0]
        with pytest.raises(ValueError, match="item_ids must be at least 1, got 0, which is padding"):
            model.similar_items(0)

    def test_back_to_raw_ids(self, model):
        ids, _ = model.recommend([0, 1], 12, exclude=[[1, 0], []])
        raw = model.id_map.items.to_raw(ids)
        assert raw.shape == (2, 12)
        assert raw[0, -3:].tolist() == [None] * 3
        assert sorted(raw[1, :10].tolist()) == list(range(100, 110))
        assert raw[1, 10:].tolist() == [None] * 2
        assert model.id_map.items.to_raw(ids, padding="-")[0, -1] == "-"
        assert model.id_map.items.to_raw(-1) is None
        assert model.id_map.items.to_raw(ids[:, :3]).dtype == np.int64
        with pytest.raises(ValueError, match="which is padding"):
            model.id_map.items.to_raw([0, -1])

    def test_other_raw_ids_are_refused(self, model):
        other = Interactions.from_frame(pd.DataFrame({"user_id": list("abcdef"), "item_id": [1] * 6}))
        with pytest.raises(ValueError, match=re.escape("exclude must have the id_map of the model, <IdMap (5 users")):
            model.recommend(0, exclude=other)
