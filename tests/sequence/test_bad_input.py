"""What a sequence model refuses: the message names the argument, the value and what is allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import LSTMNet, PoolNet

ITEMS, LENGTH, DIM = 23, 6, 5  # as in conftest.py


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "nope"}, "loss must be one of"),
        ({"representation": "nope"}, "representation must be one of 'pooling'"),
        ({"representation": 3}, "representation must be one of 'pooling'"),
        ({"representation": torch.nn.Linear(2, 2)}, "a method user_representation"),
        ({"num_negative_samples": 0}, "num_negative_samples"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"optimizer_func": 3}, "optimizer_func"),
        ({"device": "nowhere"}, "device"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ImplicitSequenceModel(**arguments)


def test_fit_names_what_is_wrong_and_changes_nothing(data, fitted, weights_of):
    model = ImplicitSequenceModel(n_iter=1)
    with pytest.raises(TypeError, match="to_sequence"):
        model.fit(Interactions([0], [1]))
    with pytest.raises(TypeError, match="must be SequenceInteractions, got ndarray"):
        model.fit(np.ones((2, 3)))
    with pytest.raises(ValueError, match="empty"):
        model.fit(SequenceInteractions(np.zeros((0, 3), int), num_items=5))
    with pytest.raises(ValueError, match="num_items must be at least 2"):
        model.fit(SequenceInteractions([[0, 0]]))
    for small in (PoolNet(ITEMS - 1, DIM), LSTMNet(ITEMS, item_embedding_layer=torch.nn.Embedding(3, 8))):
        with pytest.raises(ValueError, match=f"num_items of at least {ITEMS}"):
            fitted(small)
    assert model._net is None
    assert repr(model) == "<ImplicitSequenceModel: [uninitialised]>"
    model = fitted()
    before = weights_of(model)
    with pytest.raises(ValueError, match=f"items below {ITEMS}.*got {ITEMS}"):
        model.fit(SequenceInteractions([[1, ITEMS]]))
    changed = data()
    changed.sequences[3, 2] = -1
    with pytest.raises(ValueError, match="-1"):
        model.fit(changed)
    assert torch.equal(weights_of(model), before)
    assert len(model.history) == 2
    model.fit(SequenceInteractions([[1, 2]], num_items=ITEMS + 1))  # a larger catalogue whose new items do not occur


def test_predict_names_what_is_wrong(fitted):
    with pytest.raises(ValueError, match="fitted"):
        ImplicitSequenceModel().predict([1])
    model = fitted()
    for sequences in (3, [], [[]], np.ones((1, 1, 1), int)):
        with pytest.raises(ValueError, match="sequences must be of shape"):
            model.predict(sequences)
    for arguments in (([ITEMS],), ([-1],), ([0.5],)):
        with pytest.raises(ValueError, match="sequences must"):
            model.predict(*arguments)
    for items in ([ITEMS], [-1], [], [[1, 2]]):
        with pytest.raises(ValueError, match="item_ids must"):
            model.predict([1], items)
    with pytest.raises(TypeError, match="sequences must hold integers"):
        model.predict(["a"])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (3, r"a pair \(states, final\) from user_representation, got int"),
        ((torch.ones(2), None), "states of shape .16, .*, one row per sequence, got .2,"),
        ((torch.ones(16, 4, LENGTH), torch.ones(3)), "final of shape .16, .*, one row per sequence, got .3,"),
    ],
)
def test_a_wrong_output_of_anyones_network_is_named(data, Recency, output, message):
    class Wrong(Recency):
        def user_representation(self, sequences):
            return output

    source = np.random.RandomState(1)
    model = ImplicitSequenceModel(representation=Wrong(), batch_size=16, random_state=source)
    with pytest.raises(ValueError, match=message):
        model.fit(data())
    assert not model._initialized


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_scores_without_a_gradient_are_named(fitted, Recency, loss):
    class Wrong(Recency):
        def forward(self, states, targets):
            return super().forward(states, targets).detach()

    with pytest.raises(ValueError, match="scores that have a gradient, got a tensor with requires_grad=False"):
        fitted(Wrong(), loss=loss)


def test_an_error_inside_anyones_network_says_what_it_was_called_with(fitted, Recency):
    class Wrong(Recency):
        def user_representation(self, sequences):
            states, final = super().user_representation(sequences)
            return states, final[:, :2]

    with pytest.raises(
        IndexError, match=rf"in user_representation .* sequences of shape \(16, {LENGTH}\), item ids up"
    ):
        fitted(Recency(3))
    with pytest.raises(RuntimeError, match=rf"in forward .* states of shape \({ITEMS}, 2, 1\), targets of shape"):
        fitted(Wrong()).predict([1, 2])


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_wrong_scores_of_anyones_network_are_named(fitted, Recency, loss):
    class Wrong(Recency):
        def forward(self, states, targets):
            return torch.ones(len(targets), requires_grad=True)

    with pytest.raises(ValueError, match=rf"scores of shape \(16, {LENGTH}\), got \(16,\)"):
        fitted(Wrong(), loss=loss)
