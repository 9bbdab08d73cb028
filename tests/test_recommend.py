"""Recommendations are those of a sort of what `predict` gives, for every kind of model, exclusion and question."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.layers import BloomEmbedding
from spotfast.recommendation import estimate_memory, iter_recommend, lists, recommend
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
        same(model.recommend([4], K, item_ids=others), by_sorting(model.predict([[4]])[np.newaxis], K, None, others))

    def test_infinities_are_scores(self):
        model = implicit()
        model._net.item_biases.weight.data[[9, 4]] = np.inf
        model._net.item_biases.weight.data[2] = -np.inf
        ids, scores = model.recommend([0, 1], ITEMS)
        assert ids[:, :2].tolist() == [[4, 9]] * 2
        assert ids[:, -1].tolist() == [2, 2]
        assert scores[:, -1].tolist() == [-np.inf] * 2

    def test_after_a_sequence(self):
        model = sequential("pooling")
        model._net.item_embeddings.weight.data[5] = np.nan
        with pytest.raises(ValueError, match="the prediction after sequence 1 for item 1 is NaN"):
            model.recommend([[1, 2], [5, 2]], item_ids=[1, 2, 3])


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


def sequential(representation, **arguments):
    rng = np.random.RandomState(3)
    data = SequenceInteractions(rng.randint(1, ITEMS, (50, 6)), num_items=ITEMS)
    model = ImplicitSequenceModel(
        representation=representation, n_iter=0, embedding_dim=DIM, random_state=0, **arguments
    )
    model.fit(data)
    return normal(model)


class Recency(torch.nn.Module):
    """Anyone's network: the state is the vector of the item before."""

    def __init__(self):
        super().__init__()
        self.before, self.after = torch.nn.Embedding(ITEMS, DIM), torch.nn.Embedding(ITEMS, DIM)

    def user_representation(self, sequences):
        states = torch.nn.functional.pad(self.before(sequences), (0, 0, 1, 0)).permute(0, 2, 1)
        return states[:, :, :-1], states[:, :, -1:]

    def forward(self, states, targets):
        return (states * self.after(targets).permute(0, 2, 1)).sum(1)


@pytest.mark.parametrize("network", ["pooling", "lstm", "cnn", "mixture", "custom"])
class TestSequences:
    def test_as_a_sort_of_predictions(self, network, monkeypatch):
        model = sequential(Recency() if network == "custom" else network)
        sequences = np.random.RandomState(0).randint(1, ITEMS, (37, 4)).astype(np.int32)
        sequences[::3, :2] = 0
        scores = model.predict(sequences)
        padded = np.zeros(scores.shape, bool)
        padded[:, 0] = True
        seen = padded.copy()
        np.put_along_axis(seen, sequences.astype(np.int64), True, axis=1)
        for k in (1, K, ITEMS + 1):
            same(model.recommend(sequences, k), by_sorting(scores, k, padded))
            same(model.recommend(sequences, k, "seen"), by_sorting(scores, k, seen))
        same(model.recommend(sequences, K, list(sequences)), by_sorting(scores, K, seen))
        chosen = np.arange(0, ITEMS, 3)
        expected = by_sorting(scores, K, seen, chosen)
        same(model.recommend(sequences, K, "seen", chosen), expected)
        monkeypatch.setattr(lists, "MOST_AT_ONCE", 10)
        monkeypatch.setattr(lists, "ROW_BYTES", 3 * 4 * ITEMS)
        blocks = list(iter_recommend(model, sequences, K, "seen", chosen))
        assert len(blocks) == 4
        same([np.concatenate([block[part] for block in blocks]) for part in (1, 2)], expected)

    def test_one_sequence(self, network):
        model = sequential(Recency() if network == "custom" else network)
        several = model.recommend([[3, 9, 4]], K, "seen")
        assert several[0].shape == (1, K)
        same(model.recommend([3, 9, 4], K, "seen"), [array[0] for array in several])
        same(model.recommend([3, 9, 4], K, [3, 4, 9]), [array[0] for array in several])

    def test_similar_items(self, network):
        model = sequential(Recency() if network == "custom" else network)
        if network == "custom":
            with pytest.raises(TypeError, match=r"must have a method item_vectors.* got Recency"):
                model.similar_items(3)
            return
        check_similar(model.similar_items, model._net.item_embeddings.weight.detach().numpy(), first=1)


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


class TestSimilar:
    @pytest.mark.parametrize("kind", ["implicit", "bloom", "poisson"])
    def test_against_float64(self, kind):
        model = FACTORIZATION[kind]()
        for side, size in (("item", ITEMS), ("user", USERS)):
            with torch.no_grad():
                vectors = getattr(model._net, f"{side}_vectors")(torch.arange(size)).numpy()
            check_similar(getattr(model, f"similar_{side}s"), vectors)

    def test_a_zero_vector_is_similar_to_nothing(self):
        model = implicit()
        model._net.item_embeddings.weight.data[3] = 0.0
        ids, found = model.similar_items(3, 4)
        assert ids.tolist() == [0, 1, 2, 4]
        assert found.tolist() == [0.0] * 4

    def test_wrong_arguments(self):
        model = implicit()
        with pytest.raises(ValueError, match="metric must be one of 'cosine', 'dot', got 'l2'"):
            model.similar_items(0, metric="l2")
        with pytest.raises(ValueError, match="item_ids must be below the number of vectors = 60, got 60"):
            model.similar_items([0, 60])
        with pytest.raises(ValueError, match="user_ids must not be empty"):
            model.similar_users([])
        with pytest.raises(ValueError, match="k must be an integer of at least 1, got 0"):
            model.similar_users(0, 0)
        with pytest.raises(TypeError, match="user_ids must hold integers"):
            model.similar_users("a")
        model._net.item_embeddings.weight.data[9, 2] = np.inf
        with pytest.raises(ValueError, match="vectors must be finite to be compared, that of 9 is not"):
            model.similar_items(0)
        with pytest.raises(TypeError, match=r"must have a method user_vectors\(ids \(N,\)\).* got Towers"):
            implicit(representation=Towers()).similar_users(0)
        with pytest.raises(ValueError, match="the model has not been fitted: call fit first"):
            ImplicitFactorizationModel().similar_items(0)


class Vectors:
    """No model of ours, but it has vectors."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.tables = rng.normal(size=(USERS, DIM)), rng.normal(size=(ITEMS, DIM)).astype(np.float32)

    def user_vectors(self):
        return self.tables[0]

    def item_vectors(self):
        return torch.from_numpy(self.tables[1])


class Predictor:
    """Nor this one: it only predicts, always into the same array."""

    def __init__(self, dtype):
        self.table = np.random.default_rng(0).normal(size=(USERS, ITEMS)).astype(dtype)
        self.row = np.empty(ITEMS, dtype)

    def predict(self, user):
        assert type(user) is int
        self.row[:] = self.table[user]
        return self.row if user % 2 else self.row.tolist() if self.row.dtype == np.float64 else self.row


class TestOtherModels:
    users = np.array([7, 0, 7, 31])

    def check(self, model, scores):
        exclude = interactions()
        mask = exclude.tocsr().toarray()[self.users] > 0
        ids, best = by_sorting(scores, K, mask)
        same(recommend(model, self.users, K, exclude), (ids, best))
        same(recommend(model, 7, K, exclude), (ids[0], best[0]))

    def test_with_vectors(self):
        from spotfast.ops.scores import scores

        model = Vectors()
        users = torch.from_numpy(model.tables[0][self.users]).float()
        self.check(model, scores(users, None, model.item_vectors(), None).numpy())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    def test_that_predict(self, dtype):
        model = Predictor(dtype)
        self.check(model, model.table[self.users].astype(np.float32))

    def test_an_own_predict_is_respected(self):
        class Reversed(ImplicitFactorizationModel):
            def predict(self, user_ids, item_ids=None):
                return -super().predict(user_ids, item_ids)

        model = Reversed(n_iter=0, random_state=0)
        model.fit(interactions())
        same(model.recommend([3, 4], K), by_sorting(model.predict([3, 4]), K))

        class Popular(ImplicitSequenceModel):
            def predict(self, sequences, item_ids=None):
                assert np.shape(sequences) == (3,)
                return np.arange(ITEMS, dtype=np.float32)

        model = Popular(n_iter=0, random_state=0)
        model.fit(SequenceInteractions([[1, 2, 3]], num_items=ITEMS))
        assert model.recommend([[1, 2, 59], [2, 3, 4]], 2, "seen")[0].tolist() == [[58, 57], [59, 58]]

    @pytest.mark.parametrize(
        ("model", "users", "error", "message"),
        [
            (object(), 0, TypeError, r"model must have a method predict\(user\), or user_vectors.* got object"),
            (Vectors(), USERS, ValueError, "user_ids must be below the number of user_vectors = 40, got 40"),
            (Vectors(), [], ValueError, "user_ids must not be empty"),
            (Vectors(), [[1]], ValueError, "user_ids must be 1-D"),
        ],
    )
    def test_wrong_arguments(self, model, users, error, message):
        with pytest.raises(error, match=message):
            recommend(model, users)

    def test_wrong_tables_and_predictions(self):
        model = Vectors()
        model.tables = np.zeros(3), np.zeros((2, 2), np.float32)
        with pytest.raises(ValueError, match=r"user_vectors\(\) must return an array of shape \(N, D\), got shape"):
            recommend(model, 0)
        for rows in ([np.zeros((2, 3))] * 2, [np.zeros(0)] * 2, [np.zeros(3), np.zeros(4)]):
            predictor = type("Predictor", (), {"predict": lambda self, user, rows=rows: rows[user]})()
            with pytest.raises(ValueError, match="model must predict an array of shape"):
                recommend(predictor, [0, 1])


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"user_ids": USERS}, ValueError, "user_ids must be below num_users = 40, got 40"),
            ({"user_ids": [0, -1]}, ValueError, "user_ids must not be negative, got -1 at position 1"),
            ({"user_ids": []}, ValueError, "user_ids must not be empty"),
            ({"user_ids": [0.5]}, ValueError, "user_ids must hold whole numbers"),
            ({"user_ids": "bob"}, TypeError, "user_ids must hold integers"),
            ({"user_ids": [True]}, TypeError, "user_ids must hold integers"),
            ({"k": 0}, ValueError, "k must be an integer of at least 1, got 0"),
            ({"k": 2.0}, TypeError, "k must be an integer of at least 1, got 2.0"),
            ({"item_ids": [ITEMS]}, ValueError, "item_ids must be below num_items = 60, got 60"),
            ({"item_ids": []}, ValueError, "item_ids must hold at least one item"),
            ({"item_ids": ["tea"]}, TypeError, "item_ids must hold integers"),
            ({"exclude": "seen"}, TypeError, "exclude must be None, Interactions, a scipy sparse matrix or a sequence"),
            ({"exclude": 3}, TypeError, "exclude must be None, Interactions, a scipy sparse matrix or a sequence"),
            ({"exclude": [[1], [2]]}, ValueError, "exclude must hold one array for each of the 3 .* got 2"),
            ({"exclude": [[1], [2], [ITEMS]]}, ValueError, r"exclude\[2\] must be below num_items = 60, got 60"),
            ({"exclude": [[1], [2], ["a"]]}, TypeError, r"exclude\[2\] must hold integers"),
            ({"exclude": [1, 2, 3]}, ValueError, r"exclude\[0\] must be 1-D"),
            ({"exclude": sp.csr_matrix((4, ITEMS))}, ValueError, "exclude must have a row for every user, up to 4"),
            ({"exclude": Interactions([0], [1])}, ValueError, "exclude must have a row for every user, up to 4, got 1"),
            ({"exclude": sp.csr_matrix(np.eye(USERS, 90, 55))}, ValueError, "exclude must hold items below .* = 60"),
            ({"memory_budget": "12 parsecs"}, ValueError, "memory_budget must be bytes, or a number and one of B, kB"),
            ({"memory_budget": 0}, ValueError, "memory_budget must be an integer of at least 1, got 0"),
            ({"memory_budget": 1.5}, TypeError, "memory_budget must be an integer"),
            ({"memory_budget": 100}, ValueError, r"memory_budget must be at least \d+ .*iter_recommend needs less"),
        ],
    )
    def test_of_users(self, arguments, error, message):
        with pytest.raises(error, match=message):
            implicit().recommend(**{"user_ids": [0, 4, 2], **arguments})

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"sequences": [1, ITEMS]}, ValueError, "sequences must be below num_items = 60, got 60"),
            ({"sequences": [[[1]]]}, ValueError, "sequences must be of shape"),
            ({"sequences": []}, ValueError, "sequences must be of shape"),
            ({"exclude": "heard"}, TypeError, "exclude must be None, 'seen' or a sequence of arrays, got 'heard'"),
            ({"exclude": interactions()}, TypeError, "exclude must be None, 'seen' or a sequence of arrays, got"),
        ],
    )
    def test_of_sequences(self, arguments, error, message):
        with pytest.raises(error, match=message):
            sequential("pooling").recommend(**{"sequences": [1, 2], **arguments})

    def test_a_model_that_has_not_been_fitted(self):
        for model, asked in ((ImplicitFactorizationModel(), 0), (ImplicitSequenceModel(), [1])):
            with pytest.raises(ValueError, match="the model has not been fitted"):
                model.recommend(asked)

    def test_an_iterator_complains_at_once(self):
        with pytest.raises(ValueError, match="k must be"):
            iter_recommend(implicit(), 0, k=0)


def test_nothing_that_was_passed_in_changes():
    model, users, train = implicit(), np.array([4, 1, 4]), interactions()
    matrix = train.tocsr()
    matrix.indices = matrix.indices[::-1].copy()  # not sorted within rows
    before = {name: value.clone() for name, value in model._net.state_dict().items()}
    kept = users.copy(), matrix.indices.copy(), train.item_ids.copy()
    model.recommend(users, 3, matrix)
    model.recommend(users, 3, train)
    same((users, matrix.indices, train.item_ids), kept)
    assert all(torch.equal(before[name], value) for name, value in model._net.state_dict().items())


def test_without_the_extension(monkeypatch):
    models = [implicit(), sequential("pooling"), Vectors()]
    asked = [[3, 4], [[3, 4], [7, 1]], [3, 4]]
    before = [recommend(model, some, K) for model, some in zip(models, asked, strict=True)]
    similar = models[0].similar_items([3, 4])
    monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
    for model, some, expected in zip(models, asked, before, strict=True):
        same(recommend(model, some, K), expected)
    same(models[0].similar_items([3, 4]), similar)


def test_a_progress_bar_on_standard_error(capsys):
    model = implicit()
    model.recommend([0, 1], verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Recommending" in err
    model.recommend([0, 1])
    assert capsys.readouterr().err == ""


def test_a_budget_makes_blocks_smaller():
    model, users = implicit(), np.arange(USERS)
    need = estimate_memory(model, users, 50)
    assert need > USERS * 50 * 12
    assert len(list(iter_recommend(model, users, 50))) == 1
    sizes = [len(some) for some, _, _ in iter_recommend(model, users, 50, memory_budget=need // 3)]
    assert len(sizes) > 1
    assert sum(sizes) == USERS
    budget = int(0.8 * need)
    assert estimate_memory(model, users, 50, memory_budget=budget) <= budget
    same(model.recommend(users, 50, memory_budget=budget), model.recommend(users, 50))
