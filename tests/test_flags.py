"""Flags: True or False, of Python or NumPy, or 0 and 1. Everything else is refused, by name."""

from __future__ import annotations

import numpy as np
import pytest

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.layers import BloomEmbedding
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import CNNNet, PoolNet

DATA = Interactions([0, 1, 1], [1, 2, 0], ratings=np.ones(3))
SEQUENCES = SequenceInteractions([[0, 1, 2]])


def fitted(cls, data=DATA):
    model = cls(n_iter=1, random_state=0)
    model.fit(data)
    return model


FLAGS = {
    **{
        f"{flag} of {cls.__name__}": (flag, lambda cls=cls, **flags: cls(**flags))
        for cls in (ImplicitFactorizationModel, ExplicitFactorizationModel, ImplicitSequenceModel)
        for flag in ("sparse", "use_cuda")
    },
    "verbose of fit": ("verbose", lambda **flags: ImplicitFactorizationModel(n_iter=0).fit(DATA, **flags)),
    "verbose of a sequence fit": ("verbose", lambda **flags: ImplicitSequenceModel(n_iter=0).fit(SEQUENCES, **flags)),
    "verbose of recommend": ("verbose", lambda **flags: fitted(ImplicitFactorizationModel).recommend(0, **flags)),
    "sparse of BilinearNet": ("sparse", lambda **flags: BilinearNet(2, 3, **flags)),
    "sparse of PoolNet": ("sparse", lambda **flags: PoolNet(3, **flags)),
    "residual_connections": ("residual_connections", lambda **flags: CNNNet(3, **flags)),
    "benchmark": ("benchmark", lambda **flags: CNNNet(3, **flags)),
    "bag": ("bag", lambda **flags: BloomEmbedding(20, 4, **flags)),
}
flags = pytest.mark.parametrize(("name", "call"), FLAGS.values(), ids=FLAGS)


@flags
@pytest.mark.parametrize("value", ["x", "", None, 1.0, []])
def test_values_of_other_types(name, call, value):
    with pytest.raises(TypeError) as error:
        call(**{name: value})
    assert str(error.value) == f"{name} must be True or False, got {value!r} of type {type(value).__name__}"


@flags
def test_other_integers(name, call):
    with pytest.raises(ValueError, match=f"^{name} must be True or False, got 2$"):
        call(**{name: 2})


@flags
@pytest.mark.parametrize("value", [False, np.bool_(False), 0, np.int64(0)])
def test_what_is_false(name, call, value):
    call(**{name: value})


@pytest.mark.parametrize("value", [True, np.bool_(True), 1, np.int64(1)])
def test_what_is_true(value):
    net = CNNNet(3, residual_connections=value, sparse=value)
    assert net.residual_connections is True
    assert net.item_biases.sparse is True
