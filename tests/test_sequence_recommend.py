"""Recommendations after sequences are those of a sort of what `predict` gives, for every network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models_to_ask import DIM, ITEMS, K, by_sorting, check_similar, same, sequential

from spotfast.recommendation import iter_recommend, lists


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


class TestNotANumber:
    def test_after_a_sequence(self):
        model = sequential("pooling")
        model._net.item_embeddings.weight.data[5] = np.nan
        with pytest.raises(ValueError, match="the prediction after sequence 1 for item 1 is NaN"):
            model.recommend([[1, 2], [5, 2]], item_ids=[1, 2, 3])
