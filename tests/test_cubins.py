"""Kernels compiled ahead of time: which of them a device runs, and how they are launched. The driver is a fake one."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import json
import re
import struct
import sys
import types
import zlib
from pathlib import Path

import pytest
import torch

from spotfast import PerformanceWarning, backends, warnings
from spotfast.cuda import choice, functions, shipped
from spotfast.cuda.choice import Device, choose, select
from spotfast.cuda.driver import Driver, DriverError, driver
from spotfast.cuda.functions import KernelMissingError, find
from spotfast.cuda.manifest import Binary, Manifest, Program, Target, source_hash
from spotfast.cuda.packing import POINTERS, SCALARS, Packing
from spotfast.cuda.shipped import Shipped
from spotfast.kernels import launch as launching

H100 = Device(0, (9, 0), 13000)
A10 = Device(1, (8, 6), 12040)
NEWEST = Device(0, (12, 1), 13000)
jit_missing = choice.jit_missing.__wrapped__  # tests replace it, and what is missing changes here
TYPES = {"*fp32": "P", "i32": "i", "i64": "q", "fp32": "f", "u64": "Q"}
ARGUMENTS = (("out", "*fp32"), ("n", "i32"), ("seed", "u64"), ("absent", None), ("scale", "fp32"), ("start", "i64"))
VALUES = (0x7000, -3, 2**64 - 1, 0.25, -(2**40))


def launched(library, function, *rest):
    """What a launch was asked for: function, sizes, stream, and the values at the addresses."""
    *sizes, stream, addresses, extra = rest
    assert extra is None
    values = [
        struct.unpack(f"@{code}", ctypes.string_at(address, struct.calcsize(f"@{code}")))[0]
        for code, address in zip(library.types, addresses, strict=True)
    ]
    return function.value, [size.value for size in sizes], stream.value, values


# What a function of the driver puts into its first argument, and what of its arguments matters.
OUTPUTS = {
    "cuDriverGetVersion": lambda library: library.version,
    "cuDeviceGet": lambda library, index: 50 + index.value,
    "cuDevicePrimaryCtxRetain": lambda library, handle: handle.value + 1000,
    "cuModuleLoadData": lambda library, image: next(library.handles),
    "cuModuleGetFunction": lambda library, module, symbol: module.value + 5000,
}
INPUTS = {
    "cuInit": lambda library, flags: flags.value,
    "cuCtxSetCurrent": lambda library, context: context.value,
    "cuModuleLoadData": lambda library, module, image: image.value,
    "cuModuleGetFunction": lambda library, function, module, symbol: symbol.value.decode(),
    "cuFuncSetAttribute": lambda library, function, name, value: (function.value, name.value, value.value),
    "cuLaunchKernel": launched,
}


class FakeLibrary:
    """Takes libcuda's place, records its calls, and reads a launch's arguments from where they would be read.

    Attributes:
        calls: (name, what matters of the arguments).
        failing: the names of functions that report an error.
    """

    def __init__(self, types=(), version=13000):
        self.calls, self.failing, self.types, self.version = [], set(), types, version
        self.handles = itertools.count(100)

    def __getattr__(self, name):
        if name not in OUTPUTS and name not in INPUTS:
            raise AttributeError(name)

        def call(*arguments):
            if name in self.failing:
                self.calls.append((name, "failed"))
                return 209
            if name in OUTPUTS:
                arguments[0]._obj.value = OUTPUTS[name](self, *arguments[1:])
            self.calls.append((name, INPUTS.get(name, lambda *_: None)(self, *arguments)))
            return 0

        return call

    def cuGetErrorString(self, status, text):  # noqa: N802
        text._obj.value = b"no kernel image" if status.value == 209 else None
        return 0

    def called(self, name):
        return [what for other, what in self.calls if other == name]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing was warned of before, no variable has a say, and Triton's compiler could run."""
    for name in ("SPOTFAST_AOT", "SPOTFAST_BACKEND", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(warnings, "_given", set())
    monkeypatch.setattr(choice, "jit_missing", lambda: None)
    driver.cache_clear()
    yield
    driver.cache_clear()


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setattr(choice, "jit_missing", lambda: "triton is not installed")


@pytest.fixture
def library(monkeypatch):
    """A fake libcuda, behind the driver that functions are loaded by."""
    library = FakeLibrary([*(TYPES[kind] for _, kind in ARGUMENTS if kind), "P", "P"])
    fake = Driver(library)
    monkeypatch.setattr(functions, "driver", lambda: fake)
    monkeypatch.setattr(choice, "driver", lambda: fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=77 + device))
    return library


def image(kernel, target):
    return f"{kernel} for {target}".encode() * 20


def ship(folder, targets=("80", "86", "90", "ptx"), kernels=("file.a_kernel",), shared=1024):
    """Write compiled kernels as a build does; return what they are as an installation's."""
    sources, compiled = folder / "kernels", folder / "compiled"
    for place in (sources, compiled):
        place.mkdir(exist_ok=True)
    (sources / "file.py").write_text("def a_kernel(): pass\n")
    described, binaries = {}, {kernel: {} for kernel in kernels}
    for target in targets:
        parts = b""
        for kernel in kernels:
            part = zlib.compress(image(kernel, target))
            digest = hashlib.sha256(image(kernel, target)).hexdigest()
            symbol = kernel.partition(".")[2]
            binaries[kernel][target] = Binary(symbol, shared, 0, 2, len(parts), len(part), digest)
            parts += part
        (compiled / f"{target}.bin").write_bytes(parts)
        described[target] = Target(f"{target}.bin", "12.9.86", 13000 if target == "90" else 12000)
    programs = tuple(Program(kernel, ARGUMENTS, {"BLOCK": 32}, 4, False, binaries[kernel]) for kernel in kernels)
    Manifest(source_hash(sources), "3.9.0", described, programs).write(compiled)
    return Shipped(compiled, sources)


@pytest.fixture
def installed(tmp_path):
    return ship(tmp_path)


def key(**changes):
    fields = {"kernel": "file.a_kernel", "num_warps": 4, "fusion": False, "constants": {"BLOCK": 32}}
    fields |= {"pointers": ("*fp32", None)} | changes
    return (*list(fields.values())[:3], frozenset(fields["constants"].items()), fields["pointers"])


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
            (Device(0, (9, 0), 0), "the CUDA driver cannot be loaded"),
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
        found = Shipped(tmp_path, tmp_path)
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


class TestManifest:
    def test_written_and_read(self, installed, tmp_path):
        again = Manifest.read(tmp_path / "compiled")
        assert again == installed.manifest
        assert [program.key for program in again.programs] == [key()]

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda fields: fields.update(format=2), "format 2, expected 1"),
            (lambda fields: fields.pop("programs"), "programs"),
            (lambda fields: fields["programs"][0].pop("num_warps"), "num_warps"),
            (lambda fields: fields["programs"][0]["binaries"].pop("90"), "a program lacks a binary"),
            (lambda fields: fields.update(surprise=1), "surprise"),
        ],
    )
    def test_not_a_manifest(self, installed, tmp_path, damage, reason):
        path = tmp_path / "compiled" / "manifest.json"
        fields = json.loads(path.read_text())
        damage(fields)
        path.write_text(json.dumps(fields))
        found = Shipped(path.parent, tmp_path / "kernels")
        assert found.manifest is None
        assert found.fault
        assert "is not a manifest of compiled kernels" in found.reason
        assert reason in found.reason

    def test_not_json(self, installed, tmp_path):
        (tmp_path / "compiled" / "manifest.json").write_bytes(b"\xff\x00{")
        found = Shipped(tmp_path / "compiled", tmp_path / "kernels")
        assert (found.manifest, found.fault) == (None, True)

    @pytest.mark.parametrize("change", ["edited", "added", "renamed"])
    def test_stale(self, installed, tmp_path, change):
        """A change of any source file, as device functions are inlined, makes all of them stale."""
        source = tmp_path / "kernels" / "file.py"
        if change == "edited":
            source.write_text(source.read_text() + "#")
        elif change == "added":
            (source.parent / "other.py").write_text("")
        else:
            source.rename(source.with_name("other.py"))
        found = Shipped(tmp_path / "compiled", source.parent)
        assert "stale" in found.reason
        assert found.find(key()) is None
        with pytest.warns(PerformanceWarning, match="stale"):
            assert find(key(), H100, True, found) is None

    def test_of_operation(self, tmp_path):
        found = ship(tmp_path, kernels=("file.a_kernel", "file.b_kernel", "filer.a_kernel"))
        assert [program.kernel for program in found.of_operation("file")] == ["file.a_kernel", "file.b_kernel"]

    def test_every_kernel_is_of_an_operation(self, tmp_path):
        sources = Path(launching.__file__).parent.glob("*.py")
        kernels = sorted(path.stem for path in sources if re.search(r"^def \w+_kernel\(", path.read_text(), re.M))
        assert len(kernels) > 5
        found = ship(tmp_path, kernels=[f"{file}.a_kernel" for file in kernels])
        operations = [name for name, devices in backends.OPERATIONS.items() if "triton" in devices.get("cuda", ())]
        programs = [found.of_operation(operation) for operation in operations]
        assert all(programs)
        assert {program.kernel.split(".")[0] for some in programs for program in some} == set(kernels)

    @pytest.mark.parametrize(
        "change",
        [
            {"kernel": "file.b_kernel"}, {"num_warps": 8}, {"fusion": True}, {"constants": {"BLOCK": 64}},
            {"constants": {}}, {"pointers": ("*fp32", "*fp32")}, {"pointers": ("*bf16", None)},
        ],
    )  # fmt: skip
    def test_another_launch_is_another_program(self, installed, change):
        assert installed.find(key()) is not None
        assert installed.find(key(**change)) is None


class TestPacking:
    @pytest.mark.parametrize(("kind", "values"), {
        "i1": (False, True), "i8": (-128, 127), "i16": (-(2**15), 2**15 - 1), "i32": (-(2**31), 2**31 - 1),
        "i64": (-(2**63), 2**63 - 1), "u8": (0, 255), "u16": (0, 2**16 - 1), "u32": (0, 2**32 - 1),
        "u64": (0, 2**64 - 1), "fp32": (-0.5, 3.0), "fp64": (0.1, 1e300), "*fp32": (0, 2**64 - 16),
    }.items())  # fmt: skip
    def test_every_type(self, kind, values):
        """Both values, between others that shift them, at addresses of the right alignment."""
        code = "P" if kind.startswith("*") else SCALARS[kind]
        size = struct.calcsize(f"@{code}")
        block, addresses = Packing(["i8", kind, "i8", kind], 1).pack([1, values[0], 2, values[1]])
        assert [address % size for address in addresses[1:4:2]] == [0, 0]
        found = [struct.unpack(f"@{code}", ctypes.string_at(address, size))[0] for address in addresses[1:4:2]]
        assert tuple(found) == values
        assert ctypes.string_at(addresses[4], 8) == bytes(8)
        assert addresses[4] + 8 <= ctypes.addressof(block) + len(block)

    def test_all_scalars_are_tested(self):
        names = self.test_every_type.pytestmark[0].args[1]
        assert {kind for kind, _ in names} == {*SCALARS, "*fp32"}

    @pytest.mark.parametrize(("kind", "value"), [("i32", 2**31), ("u32", -1), ("u64", 2**64), ("i64", 0.5)])
    def test_out_of_range(self, kind, value):
        with pytest.raises(struct.error):
            Packing([kind], 0).pack([value])

    @pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
    def test_wrong_number(self, values):
        with pytest.raises(struct.error):
            Packing(["i32", "i32"], 0).pack(values)

    def test_pointers(self):
        assert POINTERS[torch.bfloat16] == "*bf16"
        assert all(name[1:] in {*SCALARS, "bf16", "fp16"} for name in POINTERS.values())


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


def corrupt(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path):
    path.write_bytes(zlib.compress(b"another kernel" * 30).ljust(path.stat().st_size, b"\0"))


DAMAGES = {
    "corrupt": (corrupt, "compiled kernels are corrupt: .*90.bin"),
    "swapped": (swap, "compiled kernels are corrupt: .*90.bin"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:9]), "compiled kernels are corrupt: .*90.bin"),
    "missing": (lambda path: path.unlink(), "compiled kernels are missing: .*90.bin cannot be read"),
}


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
        with pytest.warns(PerformanceWarning, match="corrupt.*the driver compiles their PTX at the first call"):
            find(key(), H100, True, installed)((1,), VALUES)
        corrupt(tmp_path / "compiled" / "ptx.bin")
        with pytest.raises(RuntimeError, match=r"corrupt: .*90\.bin.*triton is not installed; .*corrupt: .*ptx\.bin"):
            find(key(), H100, True, installed)

    def test_a_driver_that_refuses(self, installed, library):
        library.failing.add("cuModuleLoadData")
        with pytest.warns(PerformanceWarning, match=r"cuModuleLoadData failed: no kernel image \(error 209\)"):
            assert find(key(), H100, True, installed) is None

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
        assert Device.of(3) == Device(3, (9, 0), 0)

    def test_a_driver_without_a_device(self):
        library = FakeLibrary()
        library.failing.add("cuInit")
        with pytest.raises(DriverError, match="cuInit failed"):
            Driver(library)


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
                    match=r"a_kernel cannot run on cuda:0: Triton cannot compile it: .*no such",
                ) as caught:
                    launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=64)
                assert number or caught.value.__cause__ is cause
        with pytest.raises(KernelMissingError):
            launching.launch(kernel, (7,), aligned(), 1, 2, None, 0.5, 3, BLOCK=64)
        assert kernel.compiled == []
        assert len(kernel.warmed) == 1

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

    def test_what_triton_needs(self, monkeypatch, tmp_path):
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(choice.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
        triton = types.ModuleType("triton")
        monkeypatch.setitem(sys.modules, "triton", triton)
        monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: object())
        triton.__version__ = "3.2.0"
        assert jit_missing() == "triton 3.2.0 is too old: 3.3 or newer is needed: pip install --upgrade triton"
        triton.__version__ = "3.10.0+git1234"
        assert jit_missing() == "triton finds no C compiler: install gcc, or set CC"
        monkeypatch.setenv("CC", "cc")
        assert jit_missing() == "triton needs Python's headers: install python3-dev"
        (tmp_path / "Python.h").touch()
        assert jit_missing() is None


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

    def test_an_installation_without_any(self, monkeypatch, tmp_path):
        monkeypatch.setattr(choice, "shipped", lambda: Shipped(tmp_path, tmp_path))
        assert choice.missing(torch.device("cuda")) is None
        assert choice.of_operation("philox").source == "JIT"

    @pytest.mark.usefixtures("without_triton")
    def test_required(self, here, monkeypatch, tmp_path):
        """No other engine takes over in silence: the launch says what is missing."""
        monkeypatch.setenv("SPOTFAST_AOT", "require")
        assert choice.missing(torch.device("cuda:1")) is None
        monkeypatch.setattr(choice, "shipped", lambda: Shipped(tmp_path, tmp_path))
        assert choice.missing(torch.device("cuda")) is None


def test_the_kernels_of_this_installation():
    """They are where the package is and belong to its sources; a checkout has none."""
    found = shipped.shipped()
    assert not found.fault, found.reason
