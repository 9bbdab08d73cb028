"""What a manifest may say: a file that says something else is refused with a reason, whatever it is."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernels_to_launch import key

from spotfast.cuda.manifest import PTX, SCALARS, Binary, Manifest, Program, Target, source_hash
from spotfast.cuda.packing import Packing
from spotfast.cuda.shipped import ImageError, Shipped

BINARY = Binary("a_kernel", 1024, 0, 2, 0, 9, "0" * 64)
PROGRAM = Program(
    "file.a_kernel",
    (("out", "*fp32"), ("n", "i32"), ("absent", None)),
    {"BLOCK": 32, "LOSS": "bpr", "WIDE": True, "SCALE": 0.5},
    4,
    False,
    {"90": BINARY, PTX: BINARY},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["90", "i32", "*"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of compiled kernels, and beside it that of their sources."""
    root = tmp_path_factory.mktemp("installed")
    compiled, sources = root / "compiled", root / "kernels"
    for place in (compiled, sources):
        place.mkdir()
    targets = {"90": Target("sm_90.bin", "12.9.86", 12000), PTX: Target("ptx.bin", "12.9.86", 12000)}
    Manifest(source_hash(sources), "3.9.0", targets, (PROGRAM,)).write(compiled)
    (compiled / "sm_90.bin").write_bytes(b"something")
    return compiled


@pytest.fixture(scope="module")
def fields(folder):
    return json.loads((folder / "manifest.json").read_text())


def shipped(folder, fields):
    (folder / "manifest.json").write_text(fields if isinstance(fields, str) else json.dumps(fields))
    return Shipped(folder, folder.parent / "kernels")


def places(value, path=()):
    """The paths to all parts of a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in inner:
        yield from places(part, (*path, step))


def changed(fields, path, value):
    """A copy in which another value is in a place."""
    if not path:
        return value
    result = copy.deepcopy(fields)
    inner = result
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return result


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_anywhere(folder, fields, data):
    """It is refused with a reason, or what it says can be worked with."""
    path = data.draw(st.sampled_from(list(places(fields))))
    found = shipped(folder, changed(fields, path, data.draw(JSON)))
    if found.manifest is None:
        assert found.fault
        assert found.reason.isprintable()
        return
    for program in found.manifest.programs:
        assert found.find(program.key) is not None
        for target, binary in program.binaries.items():
            assert binary.scratch == 0
            Packing([kind for _, kind in program.arguments if kind is not None], binary.hidden)
            binary.symbol.encode("ascii")
            with pytest.raises(ImageError):
                found.image(target, binary)


BINARIES = ("programs", 0, "binaries", "90")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ((*BINARIES, "scratch"), 128, "scratch must be in [0, 0], got 128"),
        ((*BINARIES, "hidden"), 9, "hidden must be in [0, 8], got 9"),
        ((*BINARIES, "hidden"), True, "hidden must be of type int, got True"),
        ((*BINARIES, "shared"), -1, "shared must be in [0, 268435456], got -1"),
        ((*BINARIES, "offset"), 10**30, "offset must be in [0, 268435456], got 10"),
        ((*BINARIES, "length"), 1.0, "length must be of type int, got 1.0"),
        ((*BINARIES, "symbol"), "a b", "symbol must be a name, got 'a b'"),
        ((*BINARIES, "symbol"), "\ud800", "symbol must be printable ASCII"),
        ((*BINARIES, "sha256"), None, "sha256 must be of type str, got None"),
        (("programs", 0, "num_warps"), 0, "num_warps must be in [1, 32], got 0"),
        (("programs", 0, "num_warps"), "4", "num_warps must be of type int, got '4'"),
        (("programs", 0, "enable_fp_fusion"), 0, "enable_fp_fusion must be of type bool, got 0"),
        (("programs", 0, "arguments", 1, 1), "i33", "n must be of a type that can be packed, got 'i33'"),
        (("programs", 0, "arguments", 1, 1), 3, "n must be of a type that can be packed, got 3"),
        (("programs", 0, "arguments", 1, 1), ["i32"], "n must be of a type that can be packed, got ['i32']"),
        (("programs", 0, "arguments"), 7, "not iterable"),
        (("programs", 0, "constants", "BLOCK"), [32], "BLOCK must be a number, a string or a bool, got [32]"),
        (("programs", 0, "constants"), [], "constants must be of type dict, got []"),
        (("programs", 0, "kernel"), 7, "kernel must be of type str, got 7"),
        (("programs",), {}, "programs must be of type list, got {}"),
        (("targets",), [], "targets must be of type dict, got []"),
        (("targets", "90", "file"), "../sm_90.bin", "file must be a name, got '../sm_90.bin'"),
        (("targets", "90", "file"), 7, "file must be of type str, got 7"),
        (("targets", "90", "minimum_driver"), "12.0", "minimum_driver must be of type int, got '12.0'"),
        (("targets", ""), {"file": "a", "ptxas": "1", "minimum_driver": 1}, "a target must be .*, got ''"),
        (("sources",), 7, "sources must be of type str, got 7"),
        (("triton",), "3.9\n", "triton must be printable ASCII"),
        (("format",), True, "format True, expected 1"),
        ((), [], "the file must be of type dict, got []"),
    ],
)
def test_what_is_wrong_is_named(folder, fields, path, value, reason):
    found = shipped(folder, changed(fields, path, value))
    assert (found.manifest, found.fault) == (None, True)
    message = found.reason.partition(" is not a manifest of compiled kernels: ")[2]
    assert all(part in message for part in reason.split(".*"))


def test_nested_too_deeply(folder):
    depth = 100_000
    found = shipped(folder, "[" * depth + "]" * depth)
    assert (found.manifest, found.fault) == (None, True)
    assert "is not a manifest of compiled kernels" in found.reason


def test_every_type_that_can_be_packed_is_one_of_a_manifest(folder, fields):
    for kind in (*SCALARS, "*bf16", None):
        found = shipped(folder, changed(fields, ("programs", 0, "arguments", 1, 1), kind))
        assert found.manifest is not None, found.reason


def test_a_build_writes_nothing_else():
    """Records are checked when they are made, not only when they are read."""
    with pytest.raises(ValueError, match="scratch must be in"):
        Binary("a_kernel", 0, 8, 2, 0, 9, "0" * 64)
    with pytest.raises(TypeError, match="num_warps must be of type int"):
        Program("file.a_kernel", (), {}, None, False, {})


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

    @pytest.mark.parametrize("contents", [b"\xff\x00{", b"", b"{"])
    def test_not_json(self, installed, tmp_path, contents):
        path = tmp_path / "compiled" / "manifest.json"
        path.write_bytes(contents)
        found = Shipped(path.parent, tmp_path / "kernels")
        assert (found.manifest, found.fault) == (None, True)
        assert found.reason.startswith(f"{path} is not a manifest of compiled kernels: ")
