"""The command line: what it prints, where, and its exit status."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import types
import zlib

import numpy as np
import pytest
import torch

import spotfast
from spotfast import backends
from spotfast.cli import doctor
from spotfast.cli.main import COMMANDS, main
from spotfast.cli.table import table
from spotfast.cuda import choice, device, jit
from spotfast.cuda.manifest import Binary, Manifest, Program, Target, source_hash
from spotfast.cuda.shipped import Shipped


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Nothing from the environment of the tests has a say, and files go to a folder of the test's own."""
    for name in ("SPOTFAST_DATA_DIR", "SPOTFAST_BACKEND", "SPOTFAST_AOT", "SPOTFAST_ISA", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    backends._load_native.cache_clear()
    yield
    backends._load_native.cache_clear()


class TestMain:
    def test_version_in_a_process(self):
        command = [sys.executable, "-m", "spotfast", "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"spotfast {spotfast.__version__}\n", "")

    def test_nobody_reads_to_the_end(self):
        """As `| head -1` does: no traceback."""
        code = "import sys\nfrom spotfast.cli import doctor\nfrom spotfast.cli.main import main\n"
        code += "doctor.run = lambda options: print('a line\\n' * 100_000) or 0\nsys.exit(main(['doctor']))"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"a line\n"
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1

    def test_version_and_help_do_not_wait_for_torch(self, run_python):
        code = "import sys\nfrom spotfast.cli.main import main\n"
        code += "try:\n    main(['{}'])\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
        assert run_python(code.format("--version")).splitlines() == [f"spotfast {spotfast.__version__}", "0 False"]
        shown = run_python(code.format("--help"))
        assert shown.endswith("0 False\n")
        assert all(command in shown for command in COMMANDS)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "arguments are required: command"),
            (["dmeo"], "invalid choice: 'dmeo'"),
            (["doctor", "--fast"], "unrecognized arguments: --fast"),
            (["demo", "--epochs", "0"], "--epochs: must be an integer in [1, 100000], got '0'"),
            (["demo", "--epochs", "ten"], "--epochs: must be an integer in [1, 100000], got 'ten'"),
            (["demo", "--seed", "-1"], "--seed: must be an integer in [0, 4294967295], got '-1'"),
        ],
    )
    def test_usage_errors(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("usage: python -m spotfast")
        assert message in shown.err

    def test_arguments_of_the_process(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["spotfast", "doctor"])
        assert main() == 0
        assert spotfast.__version__ in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_of_every_command(self, command, capsys):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert f"usage: python -m spotfast {command}" in capsys.readouterr().out

    def test_interrupt(self, monkeypatch, capsys):
        def interrupted():
            raise KeyboardInterrupt

        monkeypatch.setattr(doctor, "report", interrupted)
        assert main(["doctor"]) == 130
        assert capsys.readouterr().err == "spotfast doctor: interrupted\n"


def test_table():
    rows = [("a", "bcd", "e"), ("12345", "6", ""), ("x", "y", "z")]
    assert table(rows, "<><") == "a      bcd  e\n-----  ---  -\n12345    6\nx        y  z"
    assert table(rows[:1], "<><", header=False) == "a  bcd  e"


def words(text):
    """The cells of a printed table's rows, as lists of words."""
    return [line.split() for line in text.splitlines()]


@pytest.fixture
def report(capsys):
    """`report()`: the doctor's text."""

    def run():
        assert main(["doctor"]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return run


@pytest.fixture
def without(monkeypatch):
    """`without(names)`: modules that cannot be imported."""

    def block(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return block


@pytest.fixture
def cuda(monkeypatch, tmp_path):
    """A GPU, without kernels that were compiled for it."""
    asked = (jit.tools_missing, jit.assembler_unfit)
    for function in asked:
        function.cache_clear()
    for module in (choice, doctor):
        monkeypatch.setattr(module, "shipped", lambda: Shipped(tmp_path / "none", tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a made-up GPU")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(device, "driver", lambda: types.SimpleNamespace(version=12080))
    yield
    for function in asked:
        function.cache_clear()


@pytest.fixture
def compiler(monkeypatch):
    """What Triton needs to compile at run time."""
    monkeypatch.setattr(choice, "jit_missing", lambda device: None)


class TestDoctor:
    def test_nothing_missing(self, report):
        rows = words(report())
        assert ["spotfast", spotfast.__version__] in rows
        assert ["torch", torch.__version__] in rows
        assert ["numpy", np.__version__] in rows
        assert ["C++", "extension", backends.native_isa()] in rows
        assert ["CUDA", "device", "none"] in rows or torch.cuda.is_available()
        assert ["threads", str(torch.get_num_threads())] in [row[:2] for row in rows]
        for operation, by_device in backends.OPERATIONS.items():
            assert [operation, "cpu", by_device["cpu"][0]] in rows
        if not torch.cuda.is_available():
            assert rows[-1] == ["Nothing", "is", "missing."]

    def test_the_threads_that_were_set(self, report):
        spotfast.set_num_threads(7)
        try:
            assert ["threads", "7", "of"] in [row[:3] for row in words(report())]
        finally:
            spotfast.set_num_threads(None)

    def test_without_the_extension(self, report, without):
        without("spotfast._native")
        text = report()
        assert ["C++", "extension", "missing"] in words(text)
        assert ["scores", "cpu", "reference", "native", "[1]"] in words(text)
        assert ["ranks", "cpu", "numba"] in words(text)
        section = text.split("\n\n")[-1].splitlines()
        assert section[0].startswith("[1] native: the C++ extension is missing (import of spotfast._native halted")
        names = [name for name, runs in backends.OPERATIONS.items() if "native" in runs["cpu"]]
        assert section[1].split(":")[1].strip() == ", ".join(names)
        assert "the same results" in section[2]
        assert "times slower" in section[2]
        assert section[3].split(":", 1)[1].strip() == backends.REINSTALL

    def test_without_numba(self, report, without):
        without("numba")
        text = report()
        assert ["numba", "not", "installed"] in words(text)
        assert ["topk", "cpu", "reference", "numba", "[1]"] in words(text)
        assert "[1] numba: numba is not installed" in text
        assert text.endswith("Mend it:        pip install numba\n")

    def test_without_triton(self, report, without):
        """On the CPU it is not missed."""
        without("triton")
        text = report()
        assert ["triton", "not", "installed"] in words(text)
        if not torch.cuda.is_available():
            assert text.endswith("Nothing is missing.\n")

    @pytest.mark.usefixtures("cuda")
    def test_without_triton_on_cuda(self, report, without):
        without("triton")
        text = report()
        assert ["CUDA", "device", "a", "made-up", "GPU"] in words(text)
        assert ["negatives", "cuda", "reference", "triton", "[1]"] in words(text)
        assert ["scores", "cuda", "reference"] in words(text)
        assert ["windows", "cuda", "the", "CPU"] in words(text)
        assert "[1] triton: triton is not installed" in text
        assert "pip install 'spotfast[triton]'" in text
        assert "pip install -e '.[triton]'" in text

    def test_without_anything(self, report, without):
        without("spotfast._native", "numba", "triton")
        text = report()
        chosen = [row[2] for row in words(text) if row[1:2] == ["cpu"]]
        assert chosen == ["reference"] * len(backends.OPERATIONS)
        assert "[1] native: " in text
        assert "[2] numba: " in text

    @pytest.mark.usefixtures("cuda")
    def test_every_backend_has_a_remedy(self, monkeypatch, report):
        monkeypatch.setattr(backends, "missing", lambda name, _: None if name == "reference" else "gone")
        names = {name for by_device in backends.OPERATIONS.values() for row in by_device.values() for name in row}
        text = report()
        assert all(f"] {name}: gone" in text for name in names - {"reference"})

    def test_kernels_without_a_device(self, report):
        if torch.cuda.is_available():
            pytest.skip("there is one")
        rows = words(report())
        for operation, by_device in backends.OPERATIONS.items():
            assert ([operation, "none", "no", "CUDA", "device"] in rows) == ("triton" in by_device.get("cuda", ()))

    @pytest.mark.usefixtures("cuda", "compiler")
    def test_kernels_by_triton(self, report):
        text = report()
        assert ["compiled", "kernels", "none"] in words(text)
        assert re.search(r"^philox +JIT +this installation carries no compiled kernels$", text, re.MULTILINE)

    @pytest.mark.usefixtures("cuda")
    def test_kernels_without_triton(self, report, without):
        without("triton")
        assert re.search(r"^philox +reference +.*no compiled kernels; triton is not installed", report(), re.MULTILINE)

    @pytest.mark.usefixtures("cuda")
    def test_kernels_by_a_triton_that_is_too_new(self, report, monkeypatch):
        """Its assembler's code would not run with this driver: said here, or the first call would fail."""
        monkeypatch.setattr(jit, "tools_missing", lambda: None)
        monkeypatch.setattr(jit, "_assembler", lambda capability: "ptxas")
        monkeypatch.setattr(jit, "_printed", lambda path, flag: "'sm_90a', release 99.1")
        reason = "the driver is too old: it supports CUDA 12.8, triton's assembler needs 99.0"
        text = report()
        assert re.search(rf"^philox +reference +.*; {reason}: update it", text, re.MULTILINE)
        assert f"triton: {reason}" in text

    @pytest.mark.usefixtures("cuda", "compiler")
    @pytest.mark.parametrize(
        ("variable", "source"), [("SPOTFAST_BACKEND=reference", "reference"), ("SPOTFAST_AOT=0", "JIT")]
    )
    def test_kernels_and_the_environment(self, report, monkeypatch, variable, source):
        monkeypatch.setenv(*variable.split("="))
        assert ["philox", source, variable, "is", "set"] in words(report())

    @pytest.mark.usefixtures("cuda", "compiler")
    def test_kernels_that_are_required(self, report, monkeypatch):
        """No reference takes over: the operation ends with an error, for this reason."""
        monkeypatch.setenv("SPOTFAST_AOT", "require")
        reason = "SPOTFAST_AOT=require is set, but this installation carries no compiled kernels"
        assert re.search(rf"^philox +error +{reason}$", report(), re.MULTILINE)

    @pytest.mark.usefixtures("cuda", "compiler")
    def test_compiled_kernels(self, report, monkeypatch, tmp_path):
        """For the device's capability, and those of one operation."""
        image = zlib.compress(b"a cubin")
        binary = Binary("draws_kernel", 0, 0, 2, 0, len(image), hashlib.sha256(b"a cubin").hexdigest())
        program = Program("philox.draws_kernel", (("out", "*i64"),), {}, 4, False, {"90": binary, "ptx": binary})
        target = Target("a.bin", "12.9.86", 12000)
        folder = tmp_path / "compiled"
        folder.mkdir()
        (folder / "a.bin").write_bytes(image)
        Manifest(source_hash(tmp_path), "3.9.0", {"90": target, "ptx": target}, (program,)).write(folder)
        found = Shipped(folder, tmp_path)
        for module in (choice, doctor):
            monkeypatch.setattr(module, "shipped", lambda: found)
        text = report()
        assert "compiled kernels  1 for sm_90, ptx, by triton 3.9.0\n" in text
        assert re.search(r"^philox +cubin +sm_90$", text, re.MULTILINE)
        assert re.search(r"^permutation +JIT +not among those compiled ahead of time$", text, re.MULTILINE)
        (folder / "a.bin").unlink()
        assert re.search(r"^philox +JIT +compiled kernels are missing: .*a\.bin", report(), re.MULTILINE)

    def test_stale_kernels(self, report, monkeypatch):
        found = types.SimpleNamespace(manifest=None, fault=True, reason="the compiled kernels are stale")
        monkeypatch.setattr(doctor, "shipped", lambda: found)
        assert "compiled kernels  not used: the compiled kernels are stale\n" in report()

    def test_an_unknown_mode(self, monkeypatch, capsys):
        monkeypatch.setenv("SPOTFAST_AOT", "2")
        assert main(["doctor"]) == 1
        expected = "spotfast doctor: SPOTFAST_AOT must be one of '0', '1', 'require', got '2'\n"
        assert capsys.readouterr() == ("", expected)

    def test_a_broken_package(self, report, monkeypatch, tmp_path):
        (tmp_path / "triton.py").write_text("from numpy import no_such_name")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "triton", raising=False)
        assert "installed, but broken: cannot import name 'no_such_name'" in report()

    def test_the_environment(self, report, monkeypatch):
        monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
        text = report()
        assert "SPOTFAST_BACKEND=reference is set" in text
        assert ["philox", "cpu", "reference"] in words(text)

    def test_a_build_for_lesser_cpus(self, report, monkeypatch):
        monkeypatch.setenv("SPOTFAST_ISA", "baseline")
        assert backends.native_isa() == "baseline"
        module = types.SimpleNamespace(cpu_has_avx2_fma=lambda: True)
        monkeypatch.setattr(backends, "native", lambda: module)
        assert "baseline, although this CPU has AVX2 and FMA" in report()

    def test_an_unknown_instruction_set(self, monkeypatch, capsys):
        monkeypatch.setenv("SPOTFAST_ISA", "avx512")
        assert main(["doctor"]) == 1
        expected = "spotfast doctor: SPOTFAST_ISA must be one of 'auto', 'baseline', got 'avx512'\n"
        assert capsys.readouterr() == ("", expected)
