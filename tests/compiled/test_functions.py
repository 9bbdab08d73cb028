"""Functions of the driver: how they are loaded and launched, and what is said where they cannot be."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch
from fake_driver import FakeLibrary
from kernels_to_launch import A10, DAMAGES, H100, NEWEST, VALUES, corrupt, image, key, ship

from spotfast import PerformanceWarning
from spotfast.cuda import device
from spotfast.cuda.device import Device
from spotfast.cuda.driver import Driver, DriverError, driver
from spotfast.cuda.functions import KernelMissingError, find


class TestFunctions:
    def test_a_launch(self, installed, library):
        function = find(key(), A10, True, installed)
        assert library.called("cuModuleLoadData") == [image("file.a_kernel", "86")]
        assert library.called("cuModuleGetFunction") == ["a_kernel"]
        assert library.called("cuFuncSetAttribute") == []
        for _ in range(2):
            function((5, 2), VALUES)
        handle = 100 + 5000
        expected = (handle, [5, 2, 1, 128, 1, 1, 1024], 78, [*VALUES, 0, 0])
        assert library.called("cuLaunchKernel") == [expected] * 2
        assert library.called("cuCtxSetCurrent") == [1051] * 3
        assert len(library.called("cuDevicePrimaryCtxRetain")) == 1

    @pytest.mark.parametrize(("shared", "attributes"), [(49152, []), (49153, [(5100, 8, 49153)])])
    def test_shared_memory(self, tmp_path, library, shared, attributes):
        find(key(), H100, True, ship(tmp_path, shared=shared))((1,), VALUES)
        assert library.called("cuFuncSetAttribute") == attributes
        assert library.called("cuLaunchKernel")[0][1][-1] == shared

    @pytest.mark.usefixtures("without_triton")
    def test_ptx(self, installed, library):
        """It is what runs on pointers that a cubin does not take; nothing is wrong, so nothing is said."""
        find(key(), H100, False, installed)((1,), VALUES)
        assert library.called("cuModuleLoadData") == [image("file.a_kernel", "ptx")]

    @pytest.mark.usefixtures("library")
    def test_jit(self, installed):
        assert find(key(), H100, False, installed) is None
        assert find(key(num_warps=2), H100, True, installed) is None

    @pytest.mark.usefixtures("without_triton", "library")
    def test_nothing(self, installed):
        reason = r"file\.a_kernel cannot run on cuda:0: not among .* no PTX of it$"
        with pytest.raises(KernelMissingError, match=reason):
            find(key(num_warps=2), H100, True, installed)


class TestFaults:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_warned_of_once(self, installed, tmp_path, library, damage):
        harm, message = DAMAGES[damage]
        harm(tmp_path / "compiled" / "90.bin")
        with pytest.warns(PerformanceWarning, match=rf"{message}.*\. Triton compiles them at the first call") as warned:
            assert find(key(), H100, True, installed) is None
        assert len(warned) == 1
        assert find(key(), H100, True, installed) is None  # and says nothing
        assert library.called("cuModuleLoadData") == []
        find(key(), A10, True, installed)((1,), VALUES)  # the others serve

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.usefixtures("library")
    def test_required(self, installed, tmp_path, monkeypatch, damage):
        harm, message = DAMAGES[damage]
        harm(tmp_path / "compiled" / "90.bin")
        monkeypatch.setenv("SPOTFAST_AOT", "require")
        with pytest.raises(RuntimeError, match=f"SPOTFAST_AOT=require is set, but {message}") as raised:
            find(key(), H100, True, installed)
        assert raised.type is RuntimeError  # not what lets the reference take over

    @pytest.mark.usefixtures("library", "without_triton")
    def test_ptx_is_next_and_the_last(self, installed, tmp_path):
        corrupt(tmp_path / "compiled" / "90.bin")
        with pytest.warns(PerformanceWarning, match="corrupt.*The driver compiles their PTX at the first call"):
            find(key(), H100, True, installed)((1,), VALUES)
        corrupt(tmp_path / "compiled" / "ptx.bin")
        with pytest.raises(RuntimeError, match=r"corrupt: .*90\.bin.*triton is not installed; .*corrupt: .*ptx\.bin"):
            find(key(), H100, True, installed)

    def test_a_driver_that_refuses(self, installed, library):
        library.failing.add("cuModuleLoadData")
        with pytest.warns(PerformanceWarning, match=r"cuModuleLoadData failed: no kernel image \(error 209\)"):
            assert find(key(), H100, True, installed) is None

    @pytest.mark.parametrize("name", ["cuModuleGetFunction", "cuFuncSetAttribute"])
    @pytest.mark.parametrize("mode", ["1", "require"])
    def test_a_module_that_is_of_no_use(self, tmp_path, library, monkeypatch, name, mode):
        """It is unloaded, and Triton takes over, or that is an error, as where a module does not load."""
        monkeypatch.setenv("SPOTFAST_AOT", mode)
        installed = ship(tmp_path, shared=49153)
        library.failing.add(name)
        reason = rf"{name} failed: no kernel image \(error 209\)"
        if mode == "require":
            with pytest.raises(RuntimeError, match=f"SPOTFAST_AOT=require is set, but {reason}"):
                find(key(), H100, True, installed)
        else:
            with pytest.warns(PerformanceWarning, match=rf"{reason}\. Triton compiles them at the first call"):
                assert find(key(), H100, True, installed) is None
        assert library.called("cuModuleUnload") == [100]
        assert library.called("cuLaunchKernel") == []

    @pytest.mark.usefixtures("without_triton")
    def test_modules_of_no_use_at_all(self, tmp_path, library):
        installed = ship(tmp_path, shared=49153)
        library.failing.add("cuFuncSetAttribute")
        with pytest.raises(KernelMissingError, match=r"cuFuncSetAttribute failed.*triton is not installed"):
            find(key(), H100, True, installed)
        assert library.called("cuModuleUnload") == [100, 101]  # of the cubin and of the PTX

    def test_a_module_that_cannot_be_unloaded_either(self, tmp_path, library):
        """The first error is the one to tell of."""
        library.failing |= {"cuModuleGetFunction", "cuModuleUnload"}
        with pytest.warns(PerformanceWarning, match="cuModuleGetFunction failed"):
            assert find(key(), H100, True, ship(tmp_path)) is None

    def test_modules_of_use_stay(self, tmp_path, library):
        find(key(), H100, True, ship(tmp_path, shared=49153))((1,), VALUES)
        assert library.called("cuModuleUnload") == []

    @pytest.mark.parametrize("device", [NEWEST, Device(0, (9, 0), 12040), Device(0, (9, 0), 0)])
    @pytest.mark.parametrize("required", [False, True])
    @pytest.mark.usefixtures("library")
    def test_unknown_devices_and_old_drivers(self, installed, monkeypatch, device, required):
        reason = "compute capability 12.1|driver is too old|driver cannot be loaded"
        if required:
            monkeypatch.setenv("SPOTFAST_AOT", "require")
            with pytest.raises(RuntimeError, match=f"SPOTFAST_AOT=require is set, but .*({reason})"):
                find(key(), device, True, installed)
        else:
            with pytest.warns(PerformanceWarning, match=reason):
                assert find(key(), device, True, installed) is None

    def test_a_launch_that_fails(self, installed, library):
        function = find(key(), H100, True, installed)
        library.failing.add("cuLaunchKernel")
        with pytest.raises(DriverError, match="cuLaunchKernel failed: no kernel image"):
            function((1,), VALUES)

    def test_no_driver(self, monkeypatch):
        def missing(name):
            raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(ctypes, "CDLL", missing)
        with pytest.raises(DriverError, match=r"libcuda\.so\.1 cannot be loaded: libcuda"):
            driver()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
        found = Device.of(3)
        assert found == Device(3, (9, 0), 0)
        assert re.fullmatch(
            r"the CUDA driver cannot be loaded: libcuda\.so\.1.* cannot open shared object file",
            found.too_old_for("sm_90", 12000),
        )

    def test_a_driver_without_a_device(self):
        library = FakeLibrary()
        library.failing.add("cuInit")
        with pytest.raises(DriverError, match="cuInit failed"):
            Driver(library)

    def test_why_a_driver_cannot_be_loaded(self, installed, monkeypatch):
        """It is there, as in a container, but has no device, or is the stand-in of a toolkit."""
        library = FakeLibrary()
        library.failing.add("cuInit")
        monkeypatch.setattr(device, "driver", lambda: Driver(library))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
        reason = r"the CUDA driver cannot be loaded: cuInit failed: no kernel image \(error 209\)\. Triton compiles"
        with pytest.warns(PerformanceWarning, match=reason):
            assert find(key(), Device.of(0), True, installed) is None
