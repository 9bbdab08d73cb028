"""Models on the C++ engine are those of autograd; what an optimizer keeps; numbers of threads."""

from __future__ import annotations

import contextlib
import copy
from functools import partial

import numpy as np
import pytest
import torch
from device_reads import DeviceReads
from models_to_train import (
    DIM,
    EXPLICIT,
    IMPLICIT,
    ITEMS,
    LOSSES,
    OPTIMIZERS,
    USERS,
    assert_close,
    data,
    fitted,
    made,
    weights_of,
)

import spotfast
from spotfast import backends
from spotfast.factorization.implicit import NEGATIVES
from spotfast.factorization.representations import BilinearNet
from spotfast.optim import DeferredAdam
from spotfast.training.autograd import AutogradEngine

SMOOTH = [(cls, loss) for cls, loss in LOSSES if "hinge" not in loss]
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)

pytestmark = [
    pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),  # of torch's own Adagrad
]


@pytest.mark.parametrize("name", ["ratings", "weights"])
def test_numbers_too_large_for_float32(name):
    interactions = data(count=5)
    setattr(interactions, name, np.full(5, 1e39))
    model = made(EXPLICIT)
    with pytest.raises(ValueError, match=f"{name} must be at most 3.4e\\+38 in magnitude, got 1e\\+39"):
        model.fit(interactions)
    assert model._net is None


class TestAgainstAutograd:
    """The same negatives in the same order: what smooth losses train is the same but for rounding."""

    @pytest.mark.parametrize(("cls", "loss"), SMOOTH)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_smooth_losses(self, autograd, cls, loss, weighted):
        model = fitted(cls, data(weighted=weighted), loss=loss)
        with autograd():
            assert_close(model, fitted(cls, data(weighted=weighted), loss=loss))

    @every_optimizer
    def test_optimizers(self, autograd, optimizer):
        model = fitted(**OPTIMIZERS[optimizer])
        with autograd():
            assert_close(model, fitted(**OPTIMIZERS[optimizer]))

    @pytest.mark.parametrize("negatives", NEGATIVES)
    def test_negatives(self, autograd, negatives):
        model = fitted(negatives=negatives)
        with autograd():
            assert_close(model, fitted(negatives=negatives))

    @pytest.mark.parametrize("sparse", [False, True])
    def test_l2(self, autograd, sparse):
        model = fitted(l2=1e-4, sparse=sparse)
        with autograd():
            assert_close(model, fitted(l2=1e-4, sparse=sparse))

    @every_optimizer
    def test_each_goes_on_from_the_other(self, autograd, optimizer):
        """The optimizer keeps its state in the format of its class."""
        models = [fitted(**OPTIMIZERS[optimizer], n_iter=1) for _ in range(2)]
        orders = (autograd, contextlib.nullcontext), (contextlib.nullcontext, autograd)
        for model, order in zip(models, orders, strict=True):
            for path in order:
                with path():
                    model.fit(data())
        assert_close(*models)

    def test_the_learning_rate_may_change_between_fits(self, autograd):
        def trained():
            model = made(n_iter=1)
            for learning_rate in (1e-2, 1e-3, 0.0, 1e-1):
                model.learning_rate = learning_rate
                model.fit(data())
            return model

        model = trained()
        with autograd():
            assert_close(model, trained())


class TestReads:
    """Of a CUDA device: it is waited for once per fit, and by autograd for the loss of each epoch."""

    @staticmethod
    def reads(epochs, negatives):
        with DeviceReads() as reads:
            fitted(n_iter=epochs, negatives=negatives)
        return reads.count

    @pytest.mark.parametrize("negatives", NEGATIVES)
    def test_in_the_engine(self, negatives):
        assert self.reads(4, negatives) == self.reads(1, negatives)

    @pytest.mark.parametrize("negatives", NEGATIVES)
    def test_by_autograd(self, autograd, negatives, monkeypatch):
        small_chunks = partial(AutogradEngine, positions_at_once=10)
        monkeypatch.setattr("spotfast.factorization.model.AutogradEngine", small_chunks)
        with autograd():
            assert self.reads(4, negatives) == self.reads(1, negatives) + 3


class TestResuming:
    @pytest.mark.parametrize(("cls", "loss"), LOSSES)
    def test_two_fits_are_one(self, cls, loss):
        once, twice = fitted(cls, loss=loss, n_iter=10), made(cls, loss=loss, n_iter=5)
        for _ in range(2):
            twice.fit(data())
        assert once.history == twice.history
        assert torch.equal(weights_of(once), weights_of(twice))

    @every_optimizer
    @pytest.mark.parametrize("epochs", [0, 3])
    def test_saved_between_two_fits(self, optimizer, epochs, tmp_path):
        arguments = OPTIMIZERS[optimizer]
        once, saved = fitted(**arguments, n_iter=epochs + 3), fitted(**arguments, n_iter=epochs)
        saved.save(tmp_path / "model")
        loaded = IMPLICIT.load(tmp_path / "model", optimizer_func=arguments.get("optimizer_func"))
        loaded._n_iter = 3
        loaded.fit(data())
        assert once.history == loaded.history
        assert torch.equal(weights_of(once), weights_of(loaded))

    @every_optimizer
    @pytest.mark.parametrize("epochs", [0, 1])
    def test_training_goes_on_outside(self, optimizer, epochs):
        """In the optimizer that was trained with, and in a new one of its class, or, for `DeferredAdam`, in Adam."""
        model = fitted(**OPTIMIZERS[optimizer], n_iter=epochs)
        net, twin = model._net, copy.deepcopy(model._net)
        kind = type(model._optimizer)
        if kind is DeferredAdam:
            twin = BilinearNet(USERS, ITEMS, DIM)
            twin.load_state_dict(net.state_dict())
            kind = torch.optim.Adam
        other = kind(twin.parameters())
        other.load_state_dict(copy.deepcopy(model._optimizer.state_dict()))  # it would share tensors
        ids = torch.arange(4)
        for each, optimizer_of_it in ((net, model._optimizer), (twin, other)):
            optimizer_of_it.zero_grad()
            each(ids, ids).sum().backward()
            optimizer_of_it.step()
        if isinstance(model._optimizer, DeferredAdam):
            model._optimizer.flush()
        torch.testing.assert_close(list(net.parameters()), list(twin.parameters()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_number_of_threads_out_of_range(threads):
    with pytest.raises(ValueError, match=f"threads must be an integer .*1.* got {threads}"):
        spotfast.set_num_threads(threads)


@pytest.mark.parametrize("threads", [1.5, "2", True])
def test_number_of_threads_of_another_type(threads):
    with pytest.raises(TypeError, match="threads must be an integer"):
        spotfast.set_num_threads(threads)


def test_number_of_threads(set_threads):
    set_threads(1)
    assert spotfast.get_num_threads() == 1
    results = []
    for threads in (1, 2, 3, None):
        spotfast.set_num_threads(threads)
        assert spotfast.get_num_threads() == (threads or 1)
        results.append(weights_of(fitted()))
        assert torch.equal(results[0], results[-1])
