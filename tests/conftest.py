"""What several test files need: Spotlight's recorded values, the random stream's contract, threads, a fresh process."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent

pytest.register_assert_rewrite(
    "factorization_problems",
    "fake_driver",
    "kernel_epochs",
    "models_to_ask",
    "models_to_train",
    "small_factorization_models",
)

collect_ignore = ["programs"]  # scripts that tests run: they import `spotlight`, which is there for them only


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Ctrl-C reaches the tests that send it, even if whoever started them ignores it, as a shell's background does."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test draws the same from torch's global stream, as networks made here do, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def golden():
    """Inputs and outputs of Spotlight itself, by keys that read like paths."""
    with np.load(HERE / "golden" / "spotlight.npz") as recorded:
        return dict(recorded)


@pytest.fixture(scope="session")
def contract():
    """The module `random_stream`: the random stream in plain Python integers."""
    spec = importlib.util.spec_from_file_location("random_stream", HERE / "random_stream.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def set_threads():
    """`set_threads(n)`: torch's number of threads, which ours follows, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=["_native", "_native_avx2"], ids=["baseline", "avx2"])
def isa(request, monkeypatch):
    """Runs the test with each build of the extension."""
    from spotfast import backends

    if request.param == "_native_avx2" and not backends.native().cpu_has_avx2_fma():
        pytest.skip("this CPU has no AVX2")
    module = importlib.import_module(f"spotfast.{request.param}")
    monkeypatch.setattr(backends, "native", lambda: module)


@pytest.fixture
def autograd(monkeypatch):
    """`with autograd():` models train through autograd."""
    from spotfast.factorization.model import NotRecognisedError

    def refuse(*arguments):
        raise NotRecognisedError("this is a test")

    @contextlib.contextmanager
    def patched():
        with monkeypatch.context() as patch:
            patch.setattr("spotfast.factorization.model.FactorizationEngine", refuse)
            yield

    return patched


@pytest.fixture
def run_python():
    """`run_python(code, **environment)`: what a fresh interpreter prints; its failure is the test's."""

    def run(code, **environment):
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SPOTFAST_")}
        process = subprocess.run(
            [sys.executable, "-c", code],
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    return run


@pytest.fixture
def script(monkeypatch):
    """`script(name)`: a module of the folder `scripts`, which find each other there."""
    folder = HERE.parent / "scripts"

    def load(name):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    monkeypatch.syspath_prepend(folder)
    return load


@pytest.fixture
def no_sources(monkeypatch, tmp_path):
    """The cache folder of a test that reads nothing of this machine and leaves it for nothing: every source fails."""
    from spotfast.datasets.sources import Website, Wheel
    from spotfast.datasets.transport import DownloadError

    def fail(self, folder):
        raise DownloadError("no network in tests")

    monkeypatch.delenv("SPOTFAST_DATA_DIR", raising=False)
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(Website, "fetch", fail)
    monkeypatch.setattr(Wheel, "fetch", fail)
    return tmp_path / "cache"
