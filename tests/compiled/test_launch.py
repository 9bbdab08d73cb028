"""Kernels are launched as they were compiled ahead of time, or else by Triton."""

from __future__ import annotations

import contextlib

import pytest
import torch
from kernels_to_launch import image

from spotfast import PerformanceWarning
from spotfast.cuda.functions import KernelMissingError
from spotfast.kernels import launch as launching


class OnDevice(torch.Tensor):
    """A tensor in the CPU's memory that claims to be on a GPU."""

    number = 0

    @property
    def device(self):
        return torch.device("cuda", self.number)


class OnSecondDevice(OnDevice):
    number = 1


def a_kernel():
    """Stands for a kernel of the file `file`."""


a_kernel.__module__ = "spotfast.kernels.file"


@pytest.fixture
def kernel(monkeypatch, installed):
    """A kernel that records how Triton would be asked to run it."""

    class Kernel:
        fn = staticmethod(a_kernel)

        def __init__(self):
            self.compiled, self.warmed = [], []
            self.compilation_error = self.loading_error = None

        def __getitem__(self, grid):
            return lambda *arguments, **options: self.compiled.append((grid, arguments, options))

        def warmup(self, *arguments, grid, **options):
            self.warmed.append((grid, arguments, options))
            if self.compilation_error is not None:
                raise self.compilation_error
            return self

        @property
        def run(self):
            """Loads what was compiled, the first time."""
            error, self.loading_error = self.loading_error, None
            if error is not None:
                raise error

    found = Kernel()
    monkeypatch.setattr(launching, "_functions", {})
    monkeypatch.setattr(launching, "shipped", lambda: installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(9, 0), (8, 6)][index])
    return found


def aligned(kind=OnDevice, offset=0):
    """A float32 tensor that begins so many bytes beyond a multiple of 16."""
    memory = torch.zeros(64)
    skip = (-memory.data_ptr() % 16 + offset) // 4
    return memory[skip : skip + 8].as_subclass(kind)


class TestLaunch:
    def test_compiled_kernels(self, kernel, library):
        out = aligned()
        for n in (3, 4):
            launching.launch(kernel, (7,), out, n, 5, None, 0.5, 6, BLOCK=32)
        launches = library.called("cuLaunchKernel")
        values = [[out.data_ptr(), n, 5, 0.5, 6, 0, 0] for n in (3, 4)]
        assert launches == [(5100, [7, 1, 1, 128, 1, 1, 1024], 77, each) for each in values]
        assert len(library.called("cuModuleLoadData")) == 1
        assert kernel.compiled == []

    def test_a_module_per_device(self, kernel, library):
        for _ in range(2):
            for kind in (OnDevice, OnSecondDevice):
                launching.launch(kernel, (1,), aligned(kind), 1, 2, None, 0.5, 3, BLOCK=32)
        assert library.called("cuModuleLoadData") == [image("file.a_kernel", target) for target in ("90", "86")]
        assert [(handle, stream) for handle, _, stream, _ in library.called("cuLaunchKernel")] == [
            (5100, 77), (5101, 78), (5100, 77), (5101, 78),
        ]  # fmt: skip
        assert library.called("cuCtxSetCurrent") == [1050, 1050, 1051, 1051, 1050, 1051]

    @pytest.mark.parametrize("offset", [4, 8, 12])
    def test_alignment(self, kernel, library, offset):
        out = aligned(offset=offset)
        launching.launch(kernel, (7,), out, 1, 2, None, 0.5, 3, BLOCK=32)
        options = {"BLOCK": 32, "num_warps": 4, "enable_fp_fusion": False}
        assert kernel.compiled == [((7,), (out, 1, 2, None, 0.5, 3), options)]
        launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=32)
        assert len(kernel.compiled) == 1
        assert len(library.called("cuLaunchKernel")) == 1

    def test_what_was_not_compiled(self, kernel, library):
        launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=64)
        launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=32, num_warps=8)
        launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=32, enable_fp_fusion=True)
        launching.launch(kernel, (7,), aligned().double().as_subclass(OnDevice), 1, 2, None, 0.5, 3, BLOCK=32)
        launching.launch(kernel, (7,), aligned(), 1, 2, aligned(), 0.5, 3, BLOCK=32)
        assert len(kernel.compiled) == 5
        assert library.called("cuLaunchKernel") == []

    def test_on_the_cpu(self, kernel, library):
        """That is Triton's interpreter."""
        launching.launch(kernel, (7,), torch.zeros(8), 1, BLOCK=32)
        assert len(kernel.compiled) == 1
        assert library.called("cuLaunchKernel") == []

    def test_rehearsal(self, kernel, library):
        """Kernels are loaded, and none starts: neither a cubin nor what Triton compiles."""
        with launching.rehearsal():
            launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=32)
            launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=64)
            launching.launch(kernel, (7,), torch.zeros(8), 1, BLOCK=32)
            assert launching.is_rehearsal()
        assert len(library.called("cuModuleLoadData")) == 1
        assert library.called("cuLaunchKernel") == kernel.compiled == []
        assert not launching.is_rehearsal()
        launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=32)
        assert len(library.called("cuModuleLoadData")) == len(library.called("cuLaunchKernel")) == 1

    @pytest.mark.usefixtures("library")
    def test_rehearsal_compiles(self, kernel):
        """What Triton is to run is compiled as it will be launched; pointers of another alignment are another form."""
        options = {"BLOCK": 64, "num_warps": 4, "enable_fp_fusion": False}
        outs = aligned(), aligned(offset=4)
        with launching.rehearsal():
            for out in outs:
                launching.launch(kernel, (7,), out, 1, 2, None, 0.5, 3, BLOCK=64)
        assert kernel.warmed == [((7,), (out, 1, 2, None, 0.5, 3), options) for out in outs]
        assert kernel.compiled == []
        for out in outs:
            launching.launch(kernel, (7,), out, 1, 2, None, 0.5, 3, BLOCK=64)
        assert kernel.compiled == kernel.warmed
        assert len(kernel.warmed) == 2

    @pytest.mark.usefixtures("library")
    @pytest.mark.parametrize("rehearsed", [False, True])
    @pytest.mark.parametrize("when", ["compilation_error", "loading_error"])
    def test_a_kernel_that_triton_cannot_compile(self, kernel, when, rehearsed):
        """It is missing, each time it is asked for: the reference takes over before anything has changed."""
        cause = NotImplementedError("no such instruction")
        setattr(kernel, when, cause)
        with launching.rehearsal() if rehearsed else contextlib.nullcontext():
            for number in range(2):
                with pytest.raises(
                    KernelMissingError,
                    match=r"a_kernel cannot run on cuda:0: .*; Triton cannot compile it: .*no such.*; there is no PTX",
                ) as caught:
                    launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=64)
                assert number or caught.value.__cause__ is cause
        with pytest.raises(KernelMissingError):
            launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=64)
        assert kernel.compiled == []
        assert len(kernel.warmed) == 1

    @pytest.mark.parametrize("rehearsed", [False, True])
    @pytest.mark.parametrize("when", ["compilation_error", "loading_error"])
    def test_ptx_is_next_where_triton_cannot_compile(self, kernel, library, when, rehearsed):
        """It is loaded once, and Triton is not asked again."""
        setattr(kernel, when, NotImplementedError("no such instruction"))
        out = aligned(offset=4)
        reason = "a pointer .*; Triton cannot compile it: NotImplementedError: no such.* The driver compiles their PTX"
        with launching.rehearsal() if rehearsed else contextlib.nullcontext():
            with pytest.warns(PerformanceWarning, match=reason):
                launching.launch(kernel, (7,), out, 1, 2, None, 0.5, 3, BLOCK=32)
            assert len(library.called("cuLaunchKernel")) == (not rehearsed)
        launching.launch(kernel, (7,), out, 1, 2, None, 0.5, 3, BLOCK=32)
        assert len(library.called("cuLaunchKernel")) == 2 - rehearsed
        assert library.called("cuModuleLoadData") == [image("file.a_kernel", "ptx")]
        assert kernel.compiled == []
        assert len(kernel.warmed) == 1

    @pytest.mark.usefixtures("library")
    def test_no_ptx_where_it_is_not_wanted(self, kernel, monkeypatch):
        monkeypatch.setenv("SPOTFAST_AOT", "0")
        kernel.compilation_error = NotImplementedError("no such instruction")
        with pytest.raises(
            KernelMissingError, match=r"SPOTFAST_AOT=0 is set; Triton cannot compile it: .*instruction$"
        ):
            launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=32)

    @pytest.mark.usefixtures("without_triton")
    def test_rehearsal_of_a_missing_kernel(self, kernel, library):
        with launching.rehearsal(), pytest.raises(KernelMissingError):
            launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=64)

    @pytest.mark.usefixtures("library")
    def test_required(self, kernel, monkeypatch):
        monkeypatch.setenv("SPOTFAST_AOT", "require")
        launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=32)
        with pytest.raises(RuntimeError, match="require is set, but a pointer is not a multiple of 16 bytes"):
            launching.launch(kernel, (7,), aligned(offset=4), 1, 2, None, 0.5, 3, BLOCK=32)

    def test_required_for_a_slice(self, kernel, library, monkeypatch):
        """What is only read is copied to where a cubin takes it; what is there already is not."""
        monkeypatch.setenv("SPOTFAST_AOT", "require")
        for offset in (0, 4):
            given = aligned(offset=offset)
            taken = launching.packed(given)
            assert (taken is given) == (offset == 0)
            assert torch.equal(taken, given)
            launching.launch(kernel, (7,), taken, 1, 2, None, 0.5, 3, BLOCK=32)
        assert len(library.called("cuLaunchKernel")) == 2

    def test_a_strided_slice_is_copied_whole(self):
        given = torch.arange(40.0).view(4, 10)[:, 1:4]
        taken = launching.aligned(given)
        assert given.data_ptr() % 16 and not taken.data_ptr() % 16
        assert torch.equal(taken, given) and taken.is_contiguous()


class TestWithoutTriton:
    """Kernel files are imported and their kernels launched where triton is not installed."""

    def test_every_file(self, run_python):
        code = """
import importlib, pkgutil, sys
sys.modules["triton"] = None
import spotfast.kernels
count = 0
for info in pkgutil.iter_modules(spotfast.kernels.__path__):
    file = importlib.import_module(f"spotfast.kernels.{info.name}")
    count += len(getattr(file, "SPECIALISATIONS", []))
from spotfast.kernels import language, permutation, philox
assert not any(name.startswith("triton.") for name in sys.modules)
assert language.triton.cdiv(7, 2) == 4
assert [language.triton.next_power_of_2(n) for n in (1, 2, 3, 32, 33)] == [1, 2, 4, 32, 64]
assert philox.draws_kernel.fn.__name__ == "draws_kernel" and permutation.PERMUTATION.value == 1 << 16
print(count)
"""
        assert int(run_python(code)) > 0
