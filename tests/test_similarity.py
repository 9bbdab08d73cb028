"""Similar items and users, by their vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models_to_ask import FACTORIZATION, ITEMS, USERS, Towers, check_similar, implicit

from spotfast.factorization.implicit import ImplicitFactorizationModel


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
