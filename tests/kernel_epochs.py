"""Epochs for kernels to train, in the sizes of Triton's interpreter: of several files of tests."""

from __future__ import annotations

import factorization_problems as cpu
import pytest
import torch

SIZES = (9, 14)


def problem(*arguments, sizes=SIZES, **settings):
    return cpu.problem(*arguments, sizes=sizes, **settings)


def small_epoch(rule="adam"):
    """Five batches, the last of one row, after which rows owe steps."""
    return problem("bpr", rule, dim=3, count=21, batch_size=5, steps=600, sizes=(30, 25))


def assert_agree(case):
    (own, loss), (plain, expected) = case.trained("triton"), case.trained("reference")
    assert loss == pytest.approx(expected, rel=1e-5)
    cpu.assert_within_rounding(own, plain)


def parts(case, name, part):
    """Return the arrays of a table that are one thing: a tuple, of one for vectors and biases."""
    value = getattr(getattr(case, name), part)
    return value if isinstance(value, tuple) else (value,)


def failing(monkeypatch, file, name, call):
    """From then on, call number `call` of a function finds no memory."""
    function, calls = getattr(file, name), []

    def failing(*arguments, **keywords):
        calls.append(arguments[0])
        if len(calls) == call:
            raise torch.cuda.OutOfMemoryError("on purpose")
        return function(*arguments, **keywords)

    monkeypatch.setattr(file, name, failing)
