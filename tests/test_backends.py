"""The choice between engines, and that it changes nothing but speed."""

from __future__ import annotations

import importlib.machinery
import re
import sys
import types
import warnings

import pytest
import torch

import spotfast.warnings
from spotfast import backends
from spotfast.cuda import choice

# The bits of every operation, whichever way it is computed: printed by a process, or computed in this one.
DIGEST = """
import hashlib
import numpy as np
import torch
from spotfast import backends
from spotfast.ops import negatives, philox, ranks, scores, topk, windows
from spotfast.ops.permutation import permutation
from spotfast.positives import Positives
from spotfast.rows import Rows

def results():
    rng = np.random.default_rng(0)
    positives = Positives.from_interactions(rng.integers(0, 9, 300), rng.integers(0, 70, 300), 10, 70)
    users = torch.from_numpy(rng.integers(0, 10, 500))
    thresholds = negatives.popularity_thresholds(rng.integers(1, 20, 70))
    for start in (0, 1, 2**34 + 1):
        yield philox.draws(7, 3, philox.NEGATIVES, start, start + 500)
        yield negatives.uniform(7, 3, start, start + 500, 3, 1000)
        yield negatives.unseen(7, 3, start, start + 500, 3, positives, users)
        yield negatives.popularity(7, 3, start, start + 500, 3, thresholds, positives, users)
    for n in (17, 1023, 1024, 2**40 + 7):
        yield permutation(7, 3, n, 0, min(n, 1000))
    for dim in (1, 3, 31, 32, 33, 64, 127, 128):
        parts = [torch.from_numpy(rng.normal(size=size).astype(np.float32)) for size in ((9, dim), 9, (520, dim), 520)]
        yield scores.scores(*parts)
        yield scores.pair_scores(*parts, torch.arange(99) % 9, torch.arange(99) * 5)
        yield ranks.vector_ranks(*parts, Rows(np.arange(10) * 5, np.tile([1, 4, 60, 300, 519], 9)))
        yield from topk.vector_topk(*parts, 7)
    indptr, items = windows.histories(rng.integers(0, 9, 300), rng.integers(1, 70, 300), rng.integers(0, 50, 300), 10)
    yield from (indptr, items, *windows.windows(indptr, items, 5, 2, 3))
    table = rng.integers(0, 30, (9, 70)).astype(np.float32)
    yield ranks.ranks(table, Rows(np.arange(10) * 3, np.tile([1, 4, 60], 9)))
    yield topk.topk(table, 5)

def digest():
    found = hashlib.sha256()
    for result in results():
        found.update(np.ascontiguousarray(result).tobytes())
    return found.hexdigest()
"""

# Everything that may be missing is: the extension fails to import, Numba and Triton cannot be found.
WITHOUT = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("spotfast._native"):
            raise ModuleNotFoundError(f"blocked: {name}")

sys.meta_path.insert(0, Blocker())
sys.modules["numba"] = sys.modules["triton"] = None
"""

USING = """
import spotfast.evaluation, spotfast.cross_validation
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

data = Interactions([0, 1, 1, 2], [0, 1, 2, 3])
model = ImplicitFactorizationModel(n_iter=1)
model.fit(data)
assert spotfast.evaluation.mrr_score(model, data).shape == (3,)
assert set(map(backends.choose, backends.OPERATIONS)) == {"reference"}
assert backends.native_isa() is None
for operation, backend in (("scores", "native"), ("ranks", "numba"), ("philox", "triton")):
    try:
        backends.choose(operation, backend=backend)
    except RuntimeError as error:
        print(error)
try:
    backends.native()
except RuntimeError as error:
    print(error)
print(digest())
"""


@pytest.fixture(scope="module")
def digest():
    namespace = {}
    exec(DIGEST, namespace)
    return namespace["digest"]


class TestSameBits:
    def test_builds_of_the_extension(self, run_python, digest):
        if not backends.native().cpu_has_avx2_fma():
            pytest.skip("this CPU runs one of the two builds only")
        report = "print(backends.native_isa(), digest())"
        baseline = run_python(DIGEST + report, SPOTFAST_ISA="baseline").split()
        assert baseline[0] == "baseline"
        this = digest()
        if backends.native_isa() != "avx2":  # as the environment of the tests wants it
            assert run_python(DIGEST + report).split() == ["avx2", this]
        assert baseline[1] == this

    def test_reference(self, digest, monkeypatch):
        best = digest()
        monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
        assert set(map(backends.choose, backends.OPERATIONS)) == {"reference"}
        assert digest() == best

    def test_without_the_extension_numba_and_triton(self, run_python, digest):
        lines = run_python(WITHOUT + DIGEST + USING).splitlines()
        assert len(lines) == 5
        assert "backend 'native' cannot run scores on cpu: the C++ extension is missing (blocked:" in lines[0]
        assert "install a C++ compiler" in lines[0]
        assert "backend 'numba' cannot run ranks on cpu: numba is not installed: pip install numba" in lines[1]
        assert "backend 'triton' cannot run philox on cpu: triton is not installed" in lines[2]
        assert "the C++ extension is missing" in lines[3]
        assert lines[4] == digest()


@pytest.fixture(params=[False, True], ids=["without triton", "with triton"])
def triton(request, monkeypatch):
    module = types.ModuleType("triton")
    module.__spec__ = importlib.machinery.ModuleSpec("triton", None)
    monkeypatch.setitem(sys.modules, "triton", module if request.param else None)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("SPOTFAST_BACKEND", raising=False)
    monkeypatch.setenv("SPOTFAST_AOT", "0")
    if request.param:
        monkeypatch.setattr(choice, "jit_missing", lambda device: None)  # a C compiler, Python's headers
    return request.param


class TestChoose:
    @pytest.mark.parametrize("operation", backends.OPERATIONS)
    @pytest.mark.usefixtures("triton")
    def test_on_the_cpu(self, operation):
        """The first of the list, as the extension and Numba are there in these tests; or the one that is named."""
        names = backends.OPERATIONS[operation]["cpu"]
        assert backends.choose(operation) == names[0]
        assert backends.choose(operation, torch.device("cpu")) == names[0]
        for name in names:
            assert backends.choose(operation, "cpu", name) == name
            assert backends.missing(name, torch.device("cpu")) is None

    @pytest.mark.parametrize("device", ["cuda", "cuda:1"])
    def test_on_cuda(self, device, triton, monkeypatch):
        """Without triton, that is said once, of all operations, and by none that has no kernels or is to run there."""
        monkeypatch.setattr(spotfast.warnings, "_given", set())
        operations = ("scores", "philox", "permutation", "negatives", "scores")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chosen = [backends.choose(operation, device) for operation in operations]
            with pytest.raises(RuntimeError, match=f"'native' cannot run philox on {device}: it runs on the CPU"):
                backends.choose("philox", device, "native")
            assert backends.choose("philox", device, "reference") == "reference"
            monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
            assert backends.choose("sequence_loss", device) == "reference"
        assert chosen == ["reference", *3 * ["triton" if triton else "reference"], "reference"]
        if triton:
            assert not caught
        else:
            (warning,) = caught
            assert warning.category is spotfast.PerformanceWarning
            assert re.search("run on their reference.*: triton is not installed: pip install", str(warning.message))

    @pytest.mark.usefixtures("triton")
    def test_on_other_devices(self):
        assert {backends.choose(operation, "meta") for operation in backends.OPERATIONS} == {"reference"}
        with pytest.raises(RuntimeError, match="'numba' cannot run ranks on meta: it runs on the CPU"):
            backends.choose("ranks", "meta", "numba")

    def test_triton_on_the_cpu(self, triton, monkeypatch):
        reason = "it runs on CUDA devices, the tensors are on cpu" if triton else "triton is not installed: pip"
        with pytest.raises(RuntimeError, match=f"'triton' cannot run philox on cpu: {reason}"):
            backends.choose("philox", "cpu", "triton")
        if triton:
            monkeypatch.setenv("TRITON_INTERPRET", "1")
            assert backends.choose("philox", "cpu", "triton") == "triton"
            assert backends.choose("philox", "cpu") == "native"

    @pytest.mark.parametrize(("operation", "backend"), [("ranks", "native"), ("scores", "triton"), ("scores", "cuda")])
    def test_unknown(self, operation, backend):
        with pytest.raises(ValueError, match=f"backend must be one of 'auto', .*'reference', got '{backend}'"):
            backends.choose(operation, "cpu", backend)

    def test_a_name_beats_the_environment(self, monkeypatch):
        monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
        assert backends.choose("scores", "cpu", "native") == "native"


def test_instruction_sets(monkeypatch):
    load = backends._load_native.__wrapped__
    monkeypatch.setenv("SPOTFAST_ISA", "avx512")
    with pytest.raises(ValueError, match="SPOTFAST_ISA must be one of 'auto', 'baseline', got 'avx512'"):
        load()
    monkeypatch.setenv("SPOTFAST_ISA", "baseline")
    module, reason = load()
    assert module.__name__ == "spotfast._native"
    assert reason is None
    monkeypatch.delenv("SPOTFAST_ISA")
    best = "spotfast._native_avx2" if module.cpu_has_avx2_fma() else "spotfast._native"
    assert load()[0].__name__ == best


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_threads_as_torch(set_threads, threads):
    set_threads(threads)
    assert backends.num_threads() == threads
