"""What is looked at before a release is published: its files, and what its wheels carry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
import zlib
from pathlib import Path

import pytest

import spotfast
from spotfast.cuda.build import MAX_BYTES, TARGETS
from spotfast.cuda.manifest import PTX, Binary, Manifest, Program, Target, source_hash

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PYTHONS = [name.rsplit(" ", 1)[1] for name in PROJECT["project"]["classifiers"] if ":: Python :: 3." in name]
COMPILED = "spotfast/cuda/compiled"
KERNELS = ("file.a_kernel", "file.b_kernel")


def write_tree(root, targets=()):
    """The files of a wheel, as far as kernels are concerned, with some that were compiled for targets."""
    sources, compiled = root / "spotfast" / "kernels", root / COMPILED
    sources.mkdir(parents=True)
    (sources / "file.py").write_text("def a_kernel(): pass\n")
    if not targets:
        return
    compiled.mkdir(parents=True)
    described, binaries = {}, {kernel: {} for kernel in KERNELS}
    for target in [*targets, *([PTX] if "80" in targets else [])]:
        parts = b""
        for kernel in KERNELS:
            symbol, image = kernel.partition(".")[2], f"{kernel} for {target}".encode() * 20
            part = zlib.compress(image)
            digest = hashlib.sha256(image).hexdigest()
            binaries[kernel][target] = Binary(symbol, 0, 0, 2, len(parts), len(part), digest)
            parts += part
        described[target] = Target(f"sm_{target}.bin", "12.9.86", 12000)
        (compiled / f"sm_{target}.bin").write_bytes(parts)
    programs = tuple(Program(kernel, (("out", "*fp32"),), {}, 4, False, binaries[kernel]) for kernel in KERNELS)
    Manifest(source_hash(sources), "3.9.0", described, programs).write(compiled)


def write_wheel(path, targets=(), harm=None):
    """A small wheel, whose files `harm`, called with their folder, has changed."""
    root = path.with_suffix(".files")
    shutil.rmtree(root, ignore_errors=True)
    write_tree(root, targets)
    if harm is not None:
        harm(root)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root))
    shutil.rmtree(root)
    return path


def described(change):
    """A harm: `change` is called with the fields of the manifest."""

    def harm(root):
        path = root / COMPILED / "manifest.json"
        fields = json.loads(path.read_text())
        change(fields)
        path.write_text(json.dumps(fields))

    return harm


def file(name, change):
    """A harm: `change` maps the bytes of a file of compiled kernels to others."""

    def harm(root):
        path = root / COMPILED / name
        path.write_bytes(change(path.read_bytes()))

    return harm


class TestWheel:
    """scripts/check_wheel.py"""

    @pytest.fixture
    def check(self, script):
        return script("check_wheel")

    @pytest.mark.parametrize(
        ("carried", "expected"),
        [((), None), ((), ()), (("90",), None), (("90",), {"90"}), (("80", "90"), ("90", "80")), (TARGETS, TARGETS)],
    )
    def test_a_whole_wheel(self, check, tmp_path, carried, expected):
        assert check.faults(write_wheel(tmp_path / "a.whl", carried), expected) == []

    @pytest.mark.parametrize(
        ("carried", "expected", "fault"),
        [
            ((), ["90"], "no compiled kernels, expected 90"),
            (("90",), [], "kernels for 90, expected no target"),
            (("90",), ["80"], "kernels for 90, expected 80, ptx"),
            (("80", "90"), ["90"], "kernels for 80, 90, ptx, expected 90"),
        ],
    )
    def test_other_targets(self, check, tmp_path, carried, expected, fault):
        assert check.faults(write_wheel(tmp_path / "a.whl", carried), expected) == [f"a.whl: {fault}"]

    @pytest.mark.parametrize(
        ("harm", "fault"),
        [
            (lambda root: (root / COMPILED / "sm_90.bin").unlink(), f"missing: {COMPILED}/sm_90.bin"),
            (lambda root: (root / COMPILED / "old.bin").touch(), f"too many: {COMPILED}/old.bin"),
            (lambda root: (root / COMPILED / "manifest.json").unlink(), f"missing: {COMPILED}/manifest.json"),
            (lambda root: (root / "spotfast/kernels/more.py").touch(), "compiled from other sources than it carries"),
            (file("sm_90.bin", lambda data: data[:-1]), "file.b_kernel cannot be decompressed"),
            (file("sm_90.bin", lambda data: data + b"more"), "the manifest has"),
            (file("sm_90.bin", lambda data: b"y" + data[1:]), "file.a_kernel cannot be decompressed"),
            (
                described(lambda fields: fields["programs"][0]["binaries"]["90"].update(sha256="0" * 64)),
                "file.a_kernel has another checksum",
            ),
            (
                described(lambda fields: fields["programs"][1]["binaries"]["90"].update(symbol="c_kernel")),
                "file.b_kernel has no function c_kernel",
            ),
            (described(lambda fields: fields["programs"].pop(0)), "file.b_kernel begins at byte"),
            (described(lambda fields: fields["programs"].append(fields["programs"][0])), "twice in the manifest"),
            (described(lambda fields: fields.update(format=0)), "is not a manifest of compiled kernels: format 0"),
        ],
    )
    def test_what_is_wrong(self, check, tmp_path, harm, fault):
        found = check.faults(write_wheel(tmp_path / "a.whl", ["90"], harm), None)
        assert fault in "\n".join(found)
        assert all(line.startswith("a.whl: ") for line in found)

    def test_no_archive(self, check, tmp_path):
        (tmp_path / "a.whl").write_bytes(b"no archive")
        assert check.faults(tmp_path / "a.whl", None) == ["a.whl: cannot be read: File is not a zip file"]

    def test_the_size(self, check, tmp_path, monkeypatch):
        """What the build allows a target is what a target may take here, too."""
        assert check.MAX_TARGET_BYTES == MAX_BYTES
        path = write_wheel(tmp_path / "a.whl", ["80", "90"])
        size = path.stat().st_size
        monkeypatch.setattr(check, "MAX_TARGET_BYTES", 0)
        monkeypatch.setattr(check, "MAX_BYTES", size)
        assert check.faults(path, None) == []
        monkeypatch.setattr(check, "MAX_BYTES", size - 1)
        assert check.faults(path, None) == [f"a.whl: {size:,} bytes, allowed are {size - 1:,} with 3 targets"]

    def test_the_command_line(self, check, tmp_path, capsys):
        paths = [str(write_wheel(tmp_path / f"{name}.whl", [name])) for name in ("80", "90")]
        assert check.main(paths) == 0
        assert check.main(["--targets", "90;", *paths]) == 1
        shown = capsys.readouterr()
        assert shown.err == "80.whl: kernels for 80, ptx, expected 90\n"
        assert shown.out.count("nothing is wrong") == 3

    @pytest.mark.slow
    @pytest.mark.parametrize("targets", ["90", ""])
    def test_a_wheel_that_was_built(self, check, tmp_path, targets):
        """By the build itself, without the extension, which takes no part."""
        pytest.importorskip("triton", reason="triton is not installed: nothing to compile")
        tree = tmp_path / "tree"
        leave = shutil.ignore_patterns(".*", "build", "dist", "tests", "*.so", "__pycache__")
        shutil.copytree(ROOT, tree, ignore=leave)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"]
        environment = {**os.environ, "SPOTFAST_CUDA_TARGETS": targets, "CC": "false", "CXX": "false"}
        environment.pop("SPOTFAST_REQUIRE_EXT", None)
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (wheel,) = (tree / "dist").iterdir()
        assert check.faults(wheel, [targets] if targets else []) == []


class TestRelease:
    """scripts/check_release.py"""

    @pytest.fixture
    def check(self, script):
        return script("check_release")

    @pytest.fixture
    def names(self, check):
        names = {"spotfast-0.1.0.tar.gz"}
        for python in check.pythons():
            for platform in check.PLATFORMS:
                more = ".manylinux_2_27_x86_64" if platform == "manylinux_2_28_x86_64" else ""
                names.add(f"spotfast-0.1.0-{python}-{python}-{platform}{more}.whl")
        return names

    def test_the_version_is_read_from_one_place(self, check):
        assert check.version() == spotfast.__version__
        assert [f"3.{python.removeprefix('cp3')}" for python in check.pythons()] == PYTHONS

    def test_the_targets_are_those_that_there_are(self, check):
        assert list(check.TARGETS) == list(TARGETS)

    def test_a_whole_release(self, check, names):
        assert len(names) == 17
        assert check.faults(names, "0.1.0", "v0.1.0") == []

    def test_a_tag_of_another_version(self, check, names):
        assert check.faults(names, "0.1.0", "v0.2.0") == ["the tag v0.2.0 is not of version 0.1.0: v0.1.0"]

    def test_missing_and_too_many(self, check, names):
        names -= {"spotfast-0.1.0.tar.gz", "spotfast-0.1.0-cp312-cp312-win_amd64.whl"}
        names |= {"spotfast-0.1.0-cp311-cp311-linux_x86_64.whl"}
        assert check.faults(names, "0.1.0") == [
            "missing: spotfast-0.1.0.tar.gz",
            "missing: a wheel for cp312 on win_amd64",
            "too many: spotfast-0.1.0-cp311-cp311-linux_x86_64.whl",
        ]

    def test_twice(self, check, names):
        names |= {"spotfast-0.1.0-cp311-cp311-manylinux_2_28_x86_64.whl"}
        assert len(check.faults(names, "0.1.0")) == 1
        assert check.faults(names, "0.1.0")[0].startswith("twice:")

    def test_the_exit_status(self, check, names, tmp_path, capsys):
        assert check.main([]) == 2
        assert check.main([str(tmp_path)]) == 1
        assert "missing: a wheel for cp311 on manylinux_2_28_x86_64" in capsys.readouterr().err

    def test_wheels_are_looked_into(self, check, names, tmp_path, capsys):
        """Those for Linux carry kernels for every target, others none."""
        for name in names:
            path = tmp_path / name.replace("0.1.0", spotfast.__version__)
            if path.suffix == ".whl":
                write_wheel(path, TARGETS if "manylinux" in name else ())
            else:
                path.touch()
        arguments = [str(tmp_path), f"v{spotfast.__version__}"]
        assert check.main(arguments) == 0
        (one,) = tmp_path.glob("*cp312*win*")
        (other,) = tmp_path.glob("*cp313*manylinux*aarch64*")
        write_wheel(one, TARGETS)
        write_wheel(other)
        assert check.main(arguments) == 1
        assert capsys.readouterr().err.splitlines() == [
            f"{one.name}: kernels for {', '.join(sorted([*TARGETS, PTX]))}, expected no target",
            f"{other.name}: no compiled kernels, expected {', '.join(sorted(TARGETS))}",
        ]
