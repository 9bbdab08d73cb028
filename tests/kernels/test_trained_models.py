"""Models whose device has kernels are trained by these."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_epochs import SIZES, failing

from spotfast import backends
from spotfast.device_memory import DeviceMemoryError
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.kernels import factorization_step

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_memory")]


class TestModels:
    """Trained by the kernels, as on a GPU: an engine recognises them and keeps the optimizer's state."""

    @pytest.fixture(autouse=True)
    def in_triton(self, monkeypatch, large_blocks):
        monkeypatch.setitem(backends.OPERATIONS["factorization_epoch"], "cpu", ("triton",))

    @staticmethod
    def interactions():
        rng = np.random.default_rng(1)
        ids = (rng.integers(0, size, 33).astype(np.int32) for size in SIZES)
        return Interactions(*ids, num_users=SIZES[0], num_items=SIZES[1])

    @classmethod
    def fitted(cls, times, epochs, **arguments):
        model = ImplicitFactorizationModel(
            n_iter=epochs, batch_size=16, embedding_dim=3, random_state=5, loss="bpr", **arguments
        )
        for _ in range(times):
            model.fit(cls.interactions())
        return model

    @pytest.mark.filterwarnings("error:training runs through autograd")
    def test_two_fits_are_one(self):
        once, twice = self.fitted(1, 2), self.fitted(2, 1)
        assert once.history == twice.history
        for parameter, other in zip(once._net.parameters(), twice._net.parameters(), strict=True):
            assert torch.equal(parameter, other)
        assert once._optimizer.state[once._net.item_biases.weight]["step"] == 6

    @pytest.mark.parametrize("sparse", [False, True])
    def test_steps_before_an_error_are_counted(self, monkeypatch, sparse):
        model = self.fitted(1, 1, sparse=sparse)
        interactions = self.interactions()
        with monkeypatch.context() as patch:
            failing(patch, factorization_step.Step, "launch", 4)
            with pytest.raises(DeviceMemoryError, match="on purpose"):
                model.fit(interactions)
        state = model._optimizer.state[model._net.item_biases.weight]
        assert (len(model.history), state["step"]) == (1, 3 + 2)
        model.fit(interactions)
        assert model._optimizer.state[model._net.item_biases.weight]["step"] == 5 + 3

    @pytest.mark.filterwarnings("error:training runs through autograd")
    @pytest.mark.parametrize("sparse", [False, True])
    def test_as_in_cpp(self, monkeypatch, sparse):
        model = self.fitted(1, 1, sparse=sparse)
        monkeypatch.setitem(backends.OPERATIONS["factorization_epoch"], "cpu", ("native",))
        twin = self.fitted(1, 1, sparse=sparse)
        np.testing.assert_allclose(model.history.losses, twin.history.losses, rtol=1e-5)
        for parameter, other in zip(model._net.parameters(), twin._net.parameters(), strict=True):
            torch.testing.assert_close(parameter, other, rtol=1e-4, atol=1e-5)
