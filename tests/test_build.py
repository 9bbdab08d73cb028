"""What ends a build of compiled kernels, by made-up kernels: nothing is compiled here (tests/kernels does that)."""

from __future__ import annotations

import os
import re
import subprocess
from types import SimpleNamespace

import pytest

from spotfast.cuda import build, compiling
from spotfast.cuda.build import Compiled
from spotfast.cuda.compiling import CompilationError
from spotfast.kernels.specialisation import Specialisation


def parameter(name, kind="", constant=False):
    return SimpleNamespace(name=name, annotation_type=kind, is_constexpr=constant)


def specialisation(kind="i32", block=32, num_warps=4):
    parameters = [parameter("out"), parameter("n", kind), parameter("BLOCK", constant=True)]
    kernel = SimpleNamespace(params=parameters, fn=SimpleNamespace(__name__="a_kernel"))
    return Specialisation(kernel, {"out": "*fp32"}, {"BLOCK": block}, num_warps)


def compiled(parameters=(64, 32, 64, 64), num_warps=4, num_ctas=1, **scratch):
    """What Triton hands back of a kernel whose PTX has parameters of so many bits."""
    listed = ",\n".join(f".param .b{bits} a_kernel_param_{place}" for place, bits in enumerate(parameters))
    fields = {"num_warps": num_warps, "num_ctas": num_ctas, "global_scratch_size": 0, **scratch}
    metadata = SimpleNamespace(**fields, _asdict=lambda: fields)
    return SimpleNamespace(metadata=metadata, asm={"ptx": f".visible .entry a_kernel(\n{listed}\n)\n.reqntid 128"})


def test_hidden_pointers():
    assert compiling.hidden_pointers(specialisation(), compiled()) == 2
    assert compiling.hidden_pointers(specialisation(), compiled((64, 32))) == 0


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (compiled(global_scratch_size=128), "a_kernel needs scratch memory: {'global_scratch_size': 128}"),
        (compiled(profile_scratch_size=8), "'profile_scratch_size': 8"),
        (compiled(num_warps=8), "a_kernel has 8 warps and 1 programs per cluster"),
        (compiled(num_ctas=2), "a_kernel has 4 warps and 2 programs per cluster"),
        (compiled((64, 64)), "a_kernel has parameters of [64, 64] bits, expected [64, 32] and pointers"),
        (compiled((64,)), "a_kernel has parameters of [64] bits, expected [64, 32] and pointers"),
        (compiled((64, 32, 32)), "a_kernel has parameters of [64, 32, 32] bits, expected [64, 32] and pointers"),
    ],
)
def test_what_a_launch_could_not_provide(found, reason):
    with pytest.raises(CompilationError, match=re.escape(reason)):
        compiling.hidden_pointers(specialisation(), found)


@pytest.mark.parametrize("kind", ["i33", "", "fp16"])
def test_a_type_that_cannot_be_packed(kind):
    with pytest.raises(CompilationError, match=f"a_kernel: n has the type '{kind}'"):
        compiling.arguments(specialisation(kind))


@pytest.mark.parametrize("value", [None, (1, 2)])
def test_a_constant_that_a_manifest_cannot_hold(value):
    with pytest.raises(CompilationError, match="a_kernel: BLOCK must be a number, a string or a bool, got "):
        compiling.constants(specialisation(block=value))


def test_a_tool_that_says_something_else(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed: it brings the tool")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="Function a_kernel: REG:40"))
    with pytest.raises(CompilationError, match="cuobjdump says something else: Function a_kernel: REG:40"):
        compiling.usage(b"a cubin")


def test_the_environment(monkeypatch):
    """Only what is known to have no say is left: compilers read variables under many names, and new ones each year."""
    kept = ["PATH", "HOME", "TMPDIR", "PYTHONPATH", "LC_ALL"]
    monkeypatch.setattr(os, "environ", dict.fromkeys([*kept, *COMPILERS], "1"))
    build.set_environment("a/cache")
    assert os.environ == {
        **dict.fromkeys(kept, "1"),
        "TRITON_CACHE_DIR": "a/cache",
        "TRITON_DISABLE_LINE_INFO": "1",
    }


class TestBuild:
    """Of a list of specialisations, whose compilation is made up."""

    @pytest.fixture
    def run(self, monkeypatch, tmp_path, capsys):
        """`run(listed)`: the exit status, what was said, and which files there are."""
        monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: object())
        monkeypatch.setattr(build, "set_environment", lambda cache: None)
        monkeypatch.setattr(build, "ProcessPoolExecutor", Here)

        def run(listed):
            monkeypatch.setattr(compiling, "specialisations", lambda files=None: listed)
            status = build.main(["90", str(tmp_path / "made")])
            folder = tmp_path / "made"
            return status, capsys.readouterr().err, sorted(p.name for p in folder.iterdir()) if folder.exists() else []

        return run

    def test_too_many(self, run):
        listed = [("file.a_kernel", specialisation())] * (build.MAX_SPECIALISATIONS + 1)
        assert run(listed) == (1, "spotfast: 121 specialisations, expected 1 to 120\n", [])

    def test_too_large(self, run, monkeypatch):
        """A target's share, compressed."""
        monkeypatch.setattr(build, "_compile", lambda files, task: Compiled("a_kernel", 0, 2, "12.9.86", NOISE))
        monkeypatch.setattr(build, "MAX_BYTES", len(NOISE) // 2)
        status, said, files = run([("file.a_kernel", specialisation())])
        assert (status, files) == (1, [])
        reason = r"spotfast: the kernels for 90 take \d+ bytes, the wheel has room for " + str(len(NOISE) // 2)
        assert re.fullmatch(reason, said.strip())

    def test_what_cannot_be_compiled(self, run, monkeypatch):
        def fail(files, task):
            raise CompilationError("a_kernel needs scratch memory")

        monkeypatch.setattr(build, "_compile", fail)
        listed = [("file.a_kernel", specialisation())]
        assert run(listed) == (1, "spotfast: a_kernel needs scratch memory\n", [])

    def test_without_triton(self, run, monkeypatch):
        monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
        assert run([])[:2] == (
            1, "spotfast: SPOTFAST_CUDA_TARGETS needs triton, which is not installed: pip install triton\n"
        )  # fmt: skip


NOISE = bytes((i * i * 2654435761 >> 13) & 255 for i in range(4000))


COMPILERS = (
    "DISABLE_LLVM_OPT", "DISABLE_PTXAS_OPT", "DISABLE_MMA_V3", "USE_IR_LOC", "LLVM_IR_ENABLE_DUMP", "MLIR_ENABLE_DUMP",
    "NVPTX_ENABLE_DUMP", "ALLOW_LHS_TMEM_LAYOUT_CONVERSION", "PTXAS_OPTIONS", "TRITON_PTXAS_PATH", "TRITON_INTERPRET",
    "TRITON_F32_DEFAULT", "CUDA_VISIBLE_DEVICES", "A_NEW_ONE",
)  # fmt: skip


class Here:
    """A pool of processes without any."""

    def __init__(self, *_, **__): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def map(self, function, work):
        return map(function, work)
