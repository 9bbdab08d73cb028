"""Which of the kernels compiled ahead of time a device runs."""

from __future__ import annotations

import re

import pytest
import torch
from kernels_to_launch import A10, DAMAGES, H100, NEWEST, ship

from spotfast.cuda import choice
from spotfast.cuda.choice import choose, select
from spotfast.cuda.device import Device
from spotfast.cuda.shipped import Shipped


class TestSelection:
    @pytest.mark.parametrize(
        ("capability", "target"),
        [
            ((8, 0), "80"), ((8, 6), "86"), ((8, 7), "86"), ((8, 9), "89"), ((9, 0), "90"), ((10, 0), "100"),
            ((10, 3), None), ((12, 0), "120"), ((12, 1), None), ((7, 5), None), ((9, 1), None), ((13, 0), None),
        ],
    )  # fmt: skip
    def test_table(self, capability, target):
        assert select(capability, ["80", "86", "89", "90", "100", "120"]) == target

    def test_the_highest_that_is_there(self):
        assert select((8, 9), ["80", "90"]) == "80"
        assert select((8, 0), ["86", "89"]) is None
        assert select((8, 9), []) is None

    @pytest.mark.parametrize(("device", "target"), [(H100, "90"), (A10, "86"), (Device(0, (8, 9), 12000), "86")])
    def test_cubins(self, installed, device, target):
        chosen = choose(installed.of_operation("file"), installed, device)
        assert (chosen.source, chosen.target, chosen.reason) == ("cubin", target, f"sm_{target}")

    @pytest.mark.parametrize(
        ("device", "reason"),
        [
            (NEWEST, "compute capability 12.1 is not among those compiled for: 8.0, 8.6, 9.0"),
            (Device(0, (9, 0), 12090), "the driver is too old: it supports CUDA 12.9, sm_90 needs 13.0"),
            (Device(0, (9, 0), 0, "no device"), "the CUDA driver cannot be loaded: no device"),
        ],
    )
    def test_jit_instead(self, installed, device, reason):
        chosen = choose(installed.of_operation("file"), installed, device)
        assert (chosen.source, chosen.reason, chosen.fault) == ("JIT", reason, True)

    def test_nothing_is_wrong_with_what_was_not_compiled(self, installed):
        chosen = choose([], installed, H100)
        assert (chosen.source, chosen.fault) == ("JIT", False)
        assert "not among those compiled ahead of time" in chosen.reason
        chosen = choose(installed.of_operation("file"), installed, H100, aligned=False)
        assert (chosen.source, chosen.fault, chosen.reason) == ("JIT", False, "a pointer is not a multiple of 16 bytes")

    @pytest.mark.usefixtures("without_triton")
    def test_ptx_without_triton(self, installed):
        programs = installed.of_operation("file")
        assert choose(programs, installed, H100).source == "cubin"
        for chosen in (choose(programs, installed, NEWEST), choose(programs, installed, H100, aligned=False)):
            assert (chosen.source, chosen.target) == ("PTX", "ptx")
            assert chosen.reason.endswith("; triton is not installed")

    @pytest.mark.usefixtures("without_triton")
    @pytest.mark.parametrize(
        ("device", "reason"),
        [
            (Device(0, (7, 5), 13000), "PTX needs a compute capability of 8.0 or above"),
            (Device(0, (9, 0), 11080), "it supports CUDA 11.8, PTX needs 12.0"),
        ],
    )
    def test_the_reference_when_nothing_runs(self, installed, device, reason):
        chosen = choose(installed.of_operation("file"), installed, device)
        assert chosen.source == "reference"
        assert reason in chosen.reason
        assert "triton is not installed" in chosen.reason

    @pytest.mark.usefixtures("without_triton")
    def test_no_ptx(self, tmp_path):
        found = ship(tmp_path, targets=("90",))
        assert choose(found.of_operation("file"), found, A10).reason.endswith("there is no PTX of it")

    def test_an_installation_without_any(self, tmp_path):
        found = Shipped(tmp_path / "none", tmp_path)
        chosen = choose([], found, H100)
        assert (chosen.source, chosen.fault) == ("JIT", False)
        assert chosen.reason == "this installation carries no compiled kernels"

    @pytest.mark.parametrize("variable", ["SPOTFAST_AOT=0", "TRITON_INTERPRET=1"])
    def test_switched_off(self, installed, monkeypatch, variable):
        monkeypatch.setenv(*variable.split("="))
        chosen = choose(installed.of_operation("file"), installed, H100)
        assert (chosen.source, chosen.reason, chosen.fault) == ("JIT", f"{variable} is set", False)

    @pytest.mark.usefixtures("without_triton")
    def test_switched_off_without_triton(self, installed, monkeypatch):
        monkeypatch.setenv("SPOTFAST_AOT", "0")
        chosen = choose(installed.of_operation("file"), installed, H100)
        assert (chosen.source, chosen.reason) == ("reference", "SPOTFAST_AOT=0 is set; triton is not installed")

    def test_required(self, installed, monkeypatch):
        monkeypatch.setenv("SPOTFAST_AOT", "require")
        programs = installed.of_operation("file")
        assert choose(programs, installed, H100).source == "cubin"
        for chosen in (choose(programs, installed, NEWEST), choose([], installed, H100)):
            assert chosen.source == "reference"
            assert chosen.reason.startswith("SPOTFAST_AOT=require is set, but ")

    def test_unknown_mode(self, installed, monkeypatch):
        monkeypatch.setenv("SPOTFAST_AOT", "yes")
        with pytest.raises(ValueError, match="SPOTFAST_AOT must be one of '0', '1', 'require', got 'yes'"):
            choose([], installed, H100)


class TestOperations:
    """What the dispatch and the doctor ask."""

    @pytest.fixture(autouse=True)
    def device(self, monkeypatch, library):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(9, 0), (12, 1)][index])

    @pytest.fixture
    def here(self, monkeypatch, tmp_path):
        """Make this an installation with compiled kernels."""
        found = ship(tmp_path, kernels=("philox.draws_kernel",), targets=("90",))
        monkeypatch.setattr(choice, "shipped", lambda: found)
        return found

    def test_cubins_need_no_triton(self, here, without_triton):
        assert choice.missing(torch.device("cuda")) is None
        assert choice.missing(torch.device("cuda:0")) is None
        assert "compute capability 12.1" in choice.missing(torch.device("cuda:1"))
        assert choice.of_operation("philox").source == "cubin"
        assert choice.of_operation("topk").source == "reference"

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_what_cannot_be_read_does_not_run(self, here, monkeypatch, tmp_path, damage):
        """The doctor looks at the binaries themselves, as a launch would."""
        found = ship(tmp_path, kernels=("philox.draws_kernel",))
        monkeypatch.setattr(choice, "shipped", lambda: found)
        harm, message = DAMAGES[damage]
        harm(tmp_path / "compiled" / "90.bin")
        chosen = choice.of_operation("philox")
        assert (chosen.source, chosen.fault) == ("JIT", True)
        assert re.match(message, chosen.reason)
        monkeypatch.setattr(choice, "jit_missing", lambda device: "triton is not installed")
        assert choice.of_operation("philox").source == "PTX"
        harm(tmp_path / "compiled" / "ptx.bin")
        assert choice.of_operation("philox").source == "reference"

    def test_an_installation_without_any(self, monkeypatch, tmp_path):
        monkeypatch.setattr(choice, "shipped", lambda: Shipped(tmp_path / "none", tmp_path))
        assert choice.missing(torch.device("cuda")) is None
        assert choice.of_operation("philox").source == "JIT"

    @pytest.mark.usefixtures("without_triton")
    def test_required(self, here, monkeypatch, tmp_path):
        """No other engine takes over in silence: the launch says what is missing."""
        monkeypatch.setenv("SPOTFAST_AOT", "require")
        assert choice.missing(torch.device("cuda:1")) is None
        monkeypatch.setattr(choice, "shipped", lambda: Shipped(tmp_path / "none", tmp_path))
        assert choice.missing(torch.device("cuda")) is None
