"""The op that trains pooling models: C++ against the reference, bits and threads, what it refuses."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

import spotfast
from spotfast import backends
from spotfast.ops.pooling_epoch import LOSSES, pooling_epoch
from spotfast.ops.tables import EpochRange, Table, UpdateRule

ITEMS, LENGTH = 40, 7
RULES = {
    "adam": UpdateRule("adam", 1e-2),
    "adamw": UpdateRule("adam", 1e-2, weight_decay=0.1, decoupled=True),
    "adam with l2": UpdateRule("adam", 1e-2, weight_decay=1e-2),
    "sparse_adam": UpdateRule("sparse_adam", 1e-2),
    "sgd": UpdateRule("sgd", 0.5),
    "momentum": UpdateRule("momentum", 0.1, momentum=0.9),
    "adagrad": UpdateRule("adagrad", 1e-2, eps=1e-10, lr_decay=1e-2),
    "rowwise_adagrad": UpdateRule("rowwise_adagrad", 1e-2, eps=1e-10),
}


def table(rule, dim=5, seed=0):
    """Weights of the size that trained ones have, and states of zeros."""
    rng = np.random.default_rng(seed)
    vectors = torch.from_numpy(rng.normal(0, 0.5, (ITEMS, dim)).astype(np.float32))
    biases = torch.from_numpy(rng.normal(0, 0.5, (ITEMS, 1)).astype(np.float32))
    vectors[0] = biases[0] = 0
    columns = 1 if rule.name == "rowwise_adagrad" else dim
    return Table(
        vectors,
        biases,
        tuple(torch.zeros(ITEMS, columns) for _ in rule.states),
        tuple(torch.zeros(ITEMS, 1) for _ in rule.states),
    )


def sequences(count, seed=0, length=LENGTH):
    """Padded on the left by none to all of their steps; popular items often."""
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.3, (count, length)), ITEMS - 1).astype(np.int32)
    ids[np.arange(length) < rng.integers(0, length + 1, count)[:, None]] = 0
    return torch.from_numpy(ids)


def parts(own):
    return [own.vectors, own.biases, *own.vector_states, *own.bias_states]


def copied(own):
    vectors, biases, *states = (part.clone() for part in parts(own))
    half = len(states) // 2
    return Table(vectors, biases, tuple(states[:half]), tuple(states[half:]))


def run(
    own,
    rule,
    *,
    backend="native",
    data=None,
    loss="bpr",
    slots=1,
    num_items=ITEMS,
    batch_size=8,
    epoch=0,
    steps=0,
    **others,
):
    data = sequences(21) if data is None else data
    at = EpochRange(5, epoch, batch_size, steps)
    return pooling_epoch(own, data, slots, num_items, loss, rule, at, backend=backend, **others)


def assert_close(own, other, tolerance=2e-5):
    for one, two in zip(parts(own), parts(other), strict=True):
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("loss", LOSSES)
def test_step_by_step_like_the_reference(loss, name):
    """Every step starts from where the reference is: twenty of them, one batch each."""
    rule, slots = RULES[name], 4 if loss == "adaptive_hinge" else 1
    if name == "sparse_adam" and loss == "adaptive_hinge":
        rule = RULES["adam"]  # which rows it moves is asked of the losses with one negative
    own = table(rule)
    for step in range(20):
        native, data = copied(own), sequences(16, seed=step)
        common = {"data": data, "loss": loss, "slots": slots, "batch_size": 16, "epoch": step, "steps": step}
        got = run(native, rule, **common)
        expected = run(own, rule, backend="reference", **common)
        assert got.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-6)
        assert_close(native, own)


@pytest.mark.parametrize("name", [name for name in RULES if name != "adam with l2"])
def test_whole_epochs_like_the_reference(name):
    """Many steps on their own, most rows touched rarely; the losses are smooth."""
    rule = RULES[name]
    own = table(rule)
    native, data = copied(own), sequences(600)
    got = run(native, rule, data=data, batch_size=1)
    expected = run(own, rule, backend="reference", data=data, batch_size=1)
    assert got.batches == expected.batches == 600
    assert got.loss == pytest.approx(expected.loss, rel=1e-5)
    for one, two in zip(parts(native), parts(own), strict=True):
        assert (one - two).norm() <= 2e-5 * two.norm()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dim", [1, 3, 8, 31, 32, 33, 100, 129, 255, 256, 257, 511, 512])
@pytest.mark.parametrize("batch_size", [1, 20, 100])
def test_any_dimension_and_batch(dim, batch_size):
    rule = RULES["adam"]
    own = table(rule, dim)
    native = copied(own)
    run(native, rule, batch_size=batch_size)
    run(own, rule, backend="reference", batch_size=batch_size)
    assert_close(native, own, 1e-4)


@pytest.mark.parametrize("name", RULES)
def test_same_bits_for_any_number_of_threads(name):
    rule, results = RULES[name], []
    for threads in (1, 2, 3, 5, 1):
        own = table(rule)
        spotfast.set_num_threads(threads)
        try:
            loss = run(own, rule, loss="adaptive_hinge", slots=3, data=sequences(300), batch_size=64).loss
        finally:
            spotfast.set_num_threads(None)
        results.append((loss, own))
    for loss, own in results[1:]:
        assert loss == results[0][0]
        assert all(torch.equal(one, two) for one, two in zip(parts(own), parts(results[0][1]), strict=True))


def test_both_builds(monkeypatch):
    if backends.native_isa() == "baseline":
        pytest.skip("this CPU has one build only")
    rule = RULES["adam"]
    fast, baseline = table(rule), table(rule)
    run(fast, rule)
    monkeypatch.setattr(backends, "native", lambda: importlib.import_module("spotfast._native"))
    run(baseline, rule)
    assert_close(fast, baseline)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_rows_beyond_the_items_are_left_alone(backend):
    rule, data = RULES["adam"], sequences(21).clamp(max=11)
    own = table(rule)
    before = copied(own)
    run(own, rule, data=data, num_items=12, backend=backend, loss="adaptive_hinge", slots=4)
    for after, old in zip(parts(own), parts(before), strict=True):
        assert torch.equal(after[12:], old[12:])
        assert not torch.equal(after[1:12], old[1:12])


def test_parts_of_an_epoch_are_the_epoch():
    rule, data = RULES["adam"], sequences(32)
    whole, halves = table(rule), table(rule)
    run(whole, rule, data=data)
    run(halves, rule, data=data[:16])
    run(halves, rule, data=data[16:], start=16, steps=2)
    assert_close(whole, halves, 1e-6)


def test_nothing_but_padding():
    rule = RULES["adam"]
    own = table(rule)
    before = copied(own)
    result = run(own, rule, data=torch.zeros(3, LENGTH, dtype=torch.int32))
    assert result.loss == 0
    assert all(torch.equal(one, two) for one, two in zip(parts(own), parts(before), strict=True))


def test_padding_is_not_trained():
    own = table(RULES["momentum"])
    run(own, RULES["momentum"], data=sequences(100))
    assert not own.vectors[0].any()
    assert not own.biases[0].any()


def test_report_ends_it_between_two_batches(monkeypatch):
    """A long epoch, so that there is a report in time; what was trained is what the reference trains."""
    rule, data, asked = RULES["sgd"], sequences(200_000), []
    own = table(rule)
    result = run(own, rule, data=data, report=asked.append)  # None is not true
    assert len(asked) == 1
    assert asked[0] == 8 * result.batches < len(data)
    twin = table(rule)
    run(twin, rule, data=data[: asked[0]])
    assert all(torch.equal(one, two) for one, two in zip(parts(own), parts(twin), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "warp"}, "loss must be one of"),
        ({"slots": 0}, "slots must be"),
        ({"num_items": 1}, "num_items must be"),
        ({"num_items": ITEMS + 1}, rf"num_items must be an integer .*{ITEMS}.*got {ITEMS + 1}"),
        ({"num_items": 7, "data": torch.full((2, 3), 7, dtype=torch.int32)}, r"sequences must be in \[0, 7\).*7"),
        ({"batch_size": 0}, "at.batch_size must be"),
        ({"data": torch.zeros(2, 3)}, r"sequences must be contiguous int32 of shape \(n, L\).*torch.float32"),
        ({"data": torch.zeros(0, 3, dtype=torch.int32)}, r"got torch.int32 of shape \(0, 3\)"),
        ({"data": torch.full((2, 3), ITEMS, dtype=torch.int32)}, rf"sequences must be in \[0, {ITEMS}\).*{ITEMS}"),
        ({"data": torch.full((2, 3), -1, dtype=torch.int32)}, r"got -1 \.\. -1"),
        ({"batch_size": 2**31, "slots": 2**31, "data": sequences(2)}, r"less than 2\*\*31 candidates"),
    ],
)
def test_bad_input(change, message):
    own = table(RULES["adam"])
    before = copied(own)
    with pytest.raises(ValueError, match=message):
        run(own, RULES["adam"], **change)
    assert all(torch.equal(one, two) for one, two in zip(parts(own), parts(before), strict=True))


def test_bad_tables():
    own = table(RULES["adam"])
    with pytest.raises(ValueError, match=r"items.vector_states must be \(\) for rule 'sgd', got 2 tensors"):
        run(own, RULES["sgd"])
    with pytest.raises(ValueError, match=r"items.biases must be contiguous float32 of shape \(40, 1\)"):
        run(Table(own.vectors, own.biases.squeeze(1)), RULES["sgd"])
