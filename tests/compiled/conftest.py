"""An installation with compiled kernels, on a fake driver: what every test of them starts from."""

from __future__ import annotations

import types

import pytest
import torch
from fake_driver import FakeLibrary
from kernels_to_launch import ARGUMENTS, TYPES, ship

from spotfast import warnings
from spotfast.cuda import choice, device, functions
from spotfast.cuda.driver import Driver, driver


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing was warned of before, no variable has a say, and Triton's compiler could run."""
    for name in ("SPOTFAST_AOT", "SPOTFAST_BACKEND", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(warnings, "_given", set())
    monkeypatch.setattr(choice, "jit_missing", lambda device: None)
    driver.cache_clear()
    yield
    driver.cache_clear()


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setattr(choice, "jit_missing", lambda device: "triton is not installed")


@pytest.fixture
def library(monkeypatch):
    """A fake libcuda, behind the driver that functions are loaded by."""
    library = FakeLibrary([*(TYPES[kind] for _, kind in ARGUMENTS if kind), "P", "P"])
    fake = Driver(library)
    monkeypatch.setattr(functions, "driver", lambda: fake)
    monkeypatch.setattr(device, "driver", lambda: fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=77 + device))
    return library


@pytest.fixture
def installed(tmp_path):
    return ship(tmp_path)
