"""Kernels compiled into a folder, as a wheel carries them. Not for the interpreter's process (see conftest.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spotfast.kernels
from spotfast.cuda.build import FIRST_DRIVERS, TARGETS, BuildError, minimum_driver, parse_targets
from spotfast.cuda.manifest import PTX
from spotfast.cuda.shipped import Shipped

triton = pytest.importorskip("triton", reason="triton is not installed: nothing to compile")

SOURCES = Path(spotfast.kernels.__path__[0])
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


# Variables that Triton and the compilers within it read; some change what is compiled, or end it.
MEDDLING = {
    "DISABLE_LLVM_OPT": "1", "PTXAS_OPTIONS": "-O1", "USE_IR_LOC": "ttir", "TRITON_PTXAS_PATH": "/no/ptxas",
    "TRITON_F32_DEFAULT": "ieee", "DISABLE_PTXAS_OPT": "1", "LLVM_PASS_PLUGIN_PATH": "/no/plugin",
    "MLIR_ENABLE_DUMP": "1", "NVPTX_ENABLE_DUMP": "1", "ALLOW_LHS_TMEM_LAYOUT_CONVERSION": "1",
}  # fmt: skip


def build(folder, targets, *files, **environment):
    """Run the build; return the finished process."""
    command = [sys.executable, "-m", "spotfast.cuda.build", targets, folder, "--jobs", "2", "--files", *files]
    inherited = {**os.environ, **environment}
    return subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    done = build(folder, "80;90", "philox")
    assert done.returncode == 0, done.stderr
    assert "1 kernels for 80, 90, ptx" in done.stdout
    return folder


def test_the_manifest_matches_the_cubins(built, tmp_path):
    found = Shipped(built, SOURCES)
    assert found.reason == ""
    assert found.manifest.triton == triton.__version__
    assert list(found.manifest.targets) == ["80", "90", PTX]
    (program,) = found.manifest.programs
    assert (program.kernel, program.num_warps, program.enable_fp_fusion) == ("philox.draws_kernel", 4, False)
    assert program.arguments == (
        ("out", "*i64"), ("seed", "u64"), ("epoch", "u32"), ("stream_attempt", "u32"),
        ("first_block", "i64"), ("skip", "i64"), ("count", "i64"),
    )  # fmt: skip
    assert found.find(program.key) is program
    for target in ("80", "90"):
        file = tmp_path / f"{target}.cubin"
        file.write_bytes(found.image(target, program.binaries[target]))
        listed = subprocess.run([TOOLS / "cuobjdump", "-elf", file], capture_output=True, text=True, check=True).stdout
        assert f".text.{program.binaries[target].symbol}" in listed
        assert re.search(rf"\bsm[_=]{target}a?\b", listed)
    ptx = found.image(PTX, program.binaries[PTX]).decode()
    assert f".entry {program.binaries[PTX].symbol}(" in ptx
    assert ".target sm_80" in ptx
    assert ".version 8.0" in ptx


def test_the_ptx_takes_no_alignment_for_granted(built):
    """The cubin's wide stores would fail on a pointer that is only a multiple of its elements' size."""
    found = Shipped(built, SOURCES)
    (program,) = found.manifest.programs
    ptx = found.image(PTX, program.binaries[PTX]).decode()
    assert "st.global" in ptx
    assert "st.global.v" not in ptx


def test_the_same_bytes_again(built, tmp_path):
    """Whatever the environment says, wherever it is done."""
    done = build(tmp_path / "again", "90;80", "philox", **MEDDLING)
    assert done.returncode == 0, done.stderr
    first, second = ({path.name: path.read_bytes() for path in f.iterdir()} for f in (built, tmp_path / "again"))
    assert first == second
    assert str(SOURCES).encode() not in b"".join(first.values())


def test_what_cannot_be_built(tmp_path):
    done = build(tmp_path, "90", "no_such_file")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "spotfast: 0 specialisations, expected 1 to 120"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "targets"), [("90", ["90"]), (" 120;80; 90 ;", ["80", "90", "120"]), (";".join(TARGETS), list(TARGETS))]
)
def test_targets(text, targets):
    assert parse_targets(text) == targets


@pytest.mark.parametrize(
    ("text", "found"), [("75;90", "'75'"), ("sm_90", "'sm_90'"), ("8.0,9.0", "'8.0,9.0'"), (";", "none")]
)
def test_wrong_targets(text, found):
    with pytest.raises(BuildError, match=f"SPOTFAST_CUDA_TARGETS must be some of 80;86;89;90;100;120, got {found}"):
        parse_targets(text)


def test_minimum_driver():
    assert [minimum_driver("90", version) for version in ("12.8.93", "13.4.59")] == [12000, 13000]
    assert minimum_driver("120", "12.8.93") == 12080
    assert minimum_driver(PTX, "13.4.59") == 12000
    assert FIRST_DRIVERS.keys() == {*TARGETS, PTX}
