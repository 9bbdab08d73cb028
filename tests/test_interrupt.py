"""Ctrl-C while the C++ engine trains: it stops between two batches, with every row up to date."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from models_to_train import assert_close, data, made, weights_of

from spotfast import backends
from spotfast.interactions import SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel

pytestmark = pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension")

LONG = data(1_000_000, 3000, 600, unseen=100)  # takes longer than the 50 ms between two reports


@contextlib.contextmanager
def interrupted_after(steps):
    asked = []

    class Event:
        def is_set(self):
            asked.append(1)
            return len(asked) == steps

    yield Event()


@pytest.mark.parametrize("l2", [0.0, 1e-4])
def test_takes_effect_between_steps(monkeypatch, autograd, l2):
    """While the engine reports. With `l2`, users without interactions have moved, too."""
    model, twin = (made(n_iter=1, batch_size=1024, embedding_dim=32, negatives="uniform", l2=l2) for _ in range(2))
    start = made(n_iter=0, batch_size=1024, embedding_dim=32, negatives="uniform")
    start.fit(LONG)
    with monkeypatch.context() as patch:
        patch.setattr("spotfast.training.progress.Progress.advance", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            model.fit(LONG)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(model.history) == 1
    steps = int(model._optimizer.state[model._net.item_biases.weight]["step"])
    assert 0 < steps < 976
    with autograd(), monkeypatch.context() as patch:
        patch.setattr("spotfast.training.loop.deferred_interrupt", lambda: interrupted_after(steps))
        twin.fit(LONG)
    assert_close(model, twin)
    unseen = [each._net.user_embeddings.weight[-100:] for each in (model, start)]
    assert torch.equal(*unseen) == (l2 == 0)
    model.fit(LONG)
    assert len(model.history) == 2


@pytest.mark.parametrize("l2", [0.0, 1e-4])
def test_of_a_pooling_model(monkeypatch, l2):
    """In its second epoch: in the very first step, gradients that cancel leave no more than rounding to Adam."""
    rng = np.random.RandomState(0)
    ids = (1 + 199 * rng.rand(1_000_000, 5) ** 2).astype(np.int32)
    few, sequences = (SequenceInteractions(some, num_items=200) for some in (ids[:1000], ids))
    model, twin = (
        ImplicitSequenceModel("bpr", "pooling", n_iter=1, batch_size=256, l2=l2, random_state=5) for _ in range(2)
    )
    for each in (model, twin):
        each.fit(few)
    with monkeypatch.context() as patch:
        patch.setattr("spotfast.training.progress.Progress.advance", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            model.fit(sequences)
    steps = int(model._optimizer.state[model._net.item_biases.weight]["step"]) - 4
    assert 0 < steps < 3907
    with monkeypatch.context() as patch:
        patch.setenv("SPOTFAST_BACKEND", "reference")
        patch.setattr("spotfast.training.loop.deferred_interrupt", lambda: interrupted_after(steps))
        twin.fit(sequences)
    assert_close(model, twin)


def test_stops_within_a_second():
    model, sent = made(n_iter=10_000, embedding_dim=32, negatives="uniform"), []

    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(LONG)
    assert time.monotonic() - sent[0] < 1
    timer.join()
    assert len(model.history) >= 1
    assert torch.isfinite(weights_of(model)).all()


def test_a_second_one_does_not_wait_and_what_was_trained_counts(monkeypatch):
    model = made(n_iter=1, batch_size=1024, embedding_dim=32, negatives="uniform")

    def twice(*arguments):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("spotfast.training.progress.Progress.advance", twice)
        with pytest.raises(KeyboardInterrupt):
            model.fit(LONG)
    state = model._optimizer.state[model._net.item_biases.weight]
    assert state["exp_avg"].any()
    assert state["step"] > 0
