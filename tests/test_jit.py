"""What Triton's compiler needs, here and of a device: told before the first launch, which would else fail."""

from __future__ import annotations

import re
import sys
import types

import pytest

from spotfast.cuda import jit
from spotfast.cuda.device import Device

H100 = Device(0, (9, 0), 12080)


@pytest.fixture(autouse=True)
def fresh():
    """What is missing changes here."""
    asked = (jit.tools_missing, jit.assembler_unfit)
    for function in asked:
        function.cache_clear()
    yield
    for function in asked:
        function.cache_clear()


@pytest.fixture
def assembler(monkeypatch):
    """`assembler(release, *names)`: Triton's ptxas is of a release of CUDA and knows these names of devices.

    Returns what stands for Triton's compiler: `tool` is what it says where ptxas is, `asked` for which devices.
    """

    def make(release, *names):
        printed = {
            "--version": f"Cuda compilation tools, release {release}, V{release}.1",
            "--help": f"Allowed values: 'compute_86',{','.join(map(repr, names))}.",
        }
        compiler = types.ModuleType("triton.backends.nvidia.compiler")
        compiler.asked, compiler.tool = [], types.SimpleNamespace(path="a/ptxas")
        compiler.get_ptxas = lambda capability: compiler.asked.append(capability) or compiler.tool
        monkeypatch.setitem(sys.modules, "triton", types.ModuleType("triton"))
        monkeypatch.setitem(sys.modules, compiler.__name__, compiler)
        monkeypatch.setattr(jit, "tools_missing", lambda: None)
        monkeypatch.setattr(jit, "_printed", lambda path, flag: {"a/ptxas": printed}[path][flag])
        return compiler

    return make


def test_tools(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(jit.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    triton = types.ModuleType("triton")
    monkeypatch.setitem(sys.modules, "triton", triton)
    monkeypatch.setattr(jit.importlib.util, "find_spec", lambda name: object())
    missing = jit.tools_missing.__wrapped__
    triton.__version__ = "3.2.0"
    assert missing() == "triton 3.2.0 is too old: 3.3 or newer is needed: pip install --upgrade triton"
    triton.__version__ = "3.10.0+git1234"
    assert missing() == "triton finds no C compiler: install gcc, or set CC"
    monkeypatch.setenv("CC", "cc")
    assert missing() == "triton needs Python's headers: install python3-dev"
    assert jit.jit_missing(None) == jit.jit_missing(H100) == missing()  # and no assembler is asked
    (tmp_path / "Python.h").touch()
    assert missing() is None


@pytest.mark.parametrize("tool", [types.SimpleNamespace(path="a/ptxas"), ("a/ptxas", "12.9")])
def test_an_assembler_that_fits(assembler, tool):
    compiler = assembler("12.9", "sm_80", "sm_90a")
    compiler.tool = tool
    assert jit.jit_missing(H100) is None  # later minor versions of CUDA 12 serve its drivers
    assert jit.jit_missing(Device(0, (8, 0), 12000)) is None
    assert jit.jit_missing(Device(0, (8, 0), 13020)) is None
    assert compiler.asked == [90, 80, 80]
    assert jit.jit_missing(H100) is None
    assert len(compiler.asked) == 3  # once for each device


def test_a_driver_that_cannot_be_asked(assembler):
    """As on Windows, or on a GPU of another make: then nothing is known."""
    compiler = assembler("99.0")
    assert jit.jit_missing(Device(0, (9, 0), 0)) is None
    assert compiler.asked == []


def test_without_a_device_no_assembler_is_asked(assembler):
    compiler = assembler("99.0")
    assert jit.jit_missing(None) is None
    assert compiler.asked == []


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (
            H100,
            "the driver is too old: it supports CUDA 12.8, triton's assembler needs 13.0: update it, or install an "
            "older triton",
        ),
        (Device(0, (8, 6), 13000), "triton's assembler, of CUDA 13.4, does not know sm_86: install a newer triton"),
        (Device(0, (12, 1), 13000), "triton's assembler, of CUDA 13.4, does not know sm_121a: install a newer triton"),
    ],
)
def test_an_assembler_that_does_not(assembler, device, reason):
    assembler("13.4", "sm_80", "sm_90", "sm_90a", "sm_121")
    assert jit.jit_missing(device) == reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no/such/ptxas", r" cannot be run \(.*no.such.ptxas.*\): pip install --upgrade triton"),
        (sys.executable, r", .*, does not tell its version"),  # but another one's
    ],
)
def test_an_assembler_that_is_none(assembler, monkeypatch, path, reason):
    printed = jit._printed
    assembler("12.9", "sm_90a").tool = types.SimpleNamespace(path=path)
    monkeypatch.setattr(jit, "_printed", printed)
    assert re.fullmatch(f"triton's assembler{reason}", jit.jit_missing(H100))


def test_an_assembler_that_is_not_found(assembler):
    def absent(capability):
        raise RuntimeError("Cannot find ptxas")

    assembler("12.9", "sm_90a").get_ptxas = absent
    assert jit.jit_missing(H100) == "triton's assembler cannot be run (Cannot find ptxas): pip install --upgrade triton"


def test_the_assembler_of_this_triton():
    """What it prints is what is looked for."""
    pytest.importorskip("triton", reason="triton is not installed")
    future = 99000
    for capability in ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)):
        assert jit.assembler_unfit(Device(0, capability, future)) is None
    assert "does not know sm_999a" in jit.assembler_unfit(Device(0, (99, 9), future))
    assert "the driver is too old" in jit.assembler_unfit(Device(0, (9, 0), 11080))
