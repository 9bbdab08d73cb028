"""setup.py: what it compiles with, and what SPOTFAST_CUDA_TARGETS does to each kind of build."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import setuptools
from setuptools.command.build_py import build_py

from spotfast.cuda.build import TARGETS

pytest.importorskip("pybind11", reason="pybind11 is not installed: nothing to build with")

ROOT = Path(__file__).parents[1]
NOT_COPIED = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "*.pyd", "__pycache__", "tests")
MOMENT = "1767225600"


@pytest.fixture
def configured(monkeypatch):
    """`configured(system, targets, jobs)`: what setup.py hands to setuptools on a system."""

    def run(system="Linux", targets="", jobs=None):
        given = {}
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("SPOTFAST_CUDA_TARGETS", targets)
        if jobs is not None:
            monkeypatch.setenv("SPOTFAST_BUILD_JOBS", jobs)
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(setuptools, "setup", given.update)
        runpy.run_path("setup.py")
        return given

    return run


@pytest.fixture
def tree(tmp_path):
    """A copy of the checkout, without what was built."""
    return Path(shutil.copytree(ROOT, tmp_path / "tree", ignore=NOT_COPIED))


def build(tree, *arguments, **environment):
    command = [sys.executable, "setup.py", "-q", *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPOTFAST_")}
    return subprocess.run(
        command, cwd=tree, env={**inherited, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_the_same_bytes_wherever_it_is_built(configured, system):
    """No paths on the one, no dates on the other."""
    for extension in configured(system)["ext_modules"]:
        if system == "Windows":
            assert "/Brepro" in extension.extra_compile_args
            assert "/Brepro" in extension.extra_link_args
        else:
            assert f"-ffile-prefix-map={ROOT}=." in extension.extra_compile_args


def test_what_is_compiled_where(configured):
    names = {system: [each.name for each in configured(system)["ext_modules"]] for system in ("Linux", "Windows")}
    assert names["Windows"] == ["spotfast._native"]
    assert names["Linux"][0] == "spotfast._native"


@pytest.mark.parametrize(("targets", "needed"), [("", False), ("  ", False), ("80;90", True)])
def test_what_a_build_needs(configured, targets, needed):
    """The frontend installs Triton for kernels, and for nothing else."""
    assert any(name.startswith("triton") for name in configured(targets=targets)["setup_requires"]) == needed


def test_an_editable_installation_takes_no_targets(configured, monkeypatch):
    monkeypatch.setattr(build_py, "run", lambda self: None)
    for targets in ("", "90"):
        given = configured(targets=targets)
        command = given["cmdclass"]["build_py"](setuptools.Distribution({"packages": []}))
        command.ensure_finalized()
        command.editable_mode = True
        if targets:
            with pytest.raises(SystemExit, match="SPOTFAST_CUDA_TARGETS is for wheels: an editable installation"):
                command.run()
        else:
            command.run()


@pytest.mark.parametrize(
    ("targets", "found"),
    [("75;90", "'75'"), ("80,90", "'80,90'"), ("x;9.0", "'9.0', 'x'"), (";", "none")],
)
def test_a_wrong_target_is_told_before_anything_is_fetched(configured, targets, found):
    """The frontend asks setup.py what a build needs: torch and triton take minutes to fetch."""
    with pytest.raises(SystemExit) as end:
        configured(targets=targets)
    assert str(end.value) == f"SPOTFAST_CUDA_TARGETS must be some of {';'.join(TARGETS)}, got {found}"


@pytest.mark.parametrize("targets", [";".join(TARGETS), " 90 ; 80;"])
def test_targets_that_exist(configured, targets):
    assert configured(targets=targets)["setup_requires"]


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_targets_where_there_is_no_triton(configured, system):
    with pytest.raises(SystemExit, match=f"SPOTFAST_CUDA_TARGETS is .*: there is no triton for {system}"):
        configured(system, "90")


@pytest.mark.parametrize("jobs", ["two", "-1", "1.5", "²"])
def test_a_wrong_number_of_jobs(configured, jobs):
    with pytest.raises(SystemExit, match=f"SPOTFAST_BUILD_JOBS must be a whole number of at least 0, got '{jobs}'"):
        configured(jobs=jobs)


@pytest.mark.parametrize(("jobs", "expected"), [(None, []), ("", []), ("0", []), ("3", ["--jobs", "3"])])
def test_kernels_are_compiled_by_as_many_jobs(configured, monkeypatch, tmp_path, jobs, expected):
    called = []
    monkeypatch.delenv("SPOTFAST_BUILD_JOBS", raising=False)
    given = configured(targets="90", jobs=jobs)
    monkeypatch.setattr(build_py, "run", lambda self: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: called.append(command) or SimpleNamespace(returncode=0))
    command = given["cmdclass"]["build_py"](setuptools.Distribution({"packages": []}))
    command.ensure_finalized()
    command.build_lib = str(tmp_path)
    command.run()
    compiled = str(tmp_path / "spotfast" / "cuda" / "compiled")
    assert called == [[sys.executable, "-m", "spotfast.cuda.build", "90", compiled, *expected]]


def test_kernels_that_cannot_be_compiled_end_the_build(tree):
    pytest.importorskip("triton", reason="triton is not installed: nothing to compile with")
    (tree / "kernels" / "ranks.py").write_text("SPECIALISATIONS = [no_such_name]\n")
    done = build(tree, "build_py", "--build-lib", "built", SPOTFAST_CUDA_TARGETS="90")
    assert done.returncode != 0
    assert "no_such_name" in done.stderr
    assert "the CUDA kernels could not be compiled: status 1" in done.stderr
    assert not (tree / "built" / "spotfast" / "cuda" / "compiled").exists()


def test_kernels_of_an_earlier_build_are_not_carried_on(tree):
    compiled = tree / "built" / "spotfast" / "cuda" / "compiled"
    compiled.mkdir(parents=True)
    (compiled / "sm_90.bin").touch()
    done = build(tree, "build_py", "--build-lib", "built")
    assert done.returncode == 0, done.stderr
    assert (compiled.parent / "manifest.py").exists()
    assert not compiled.exists()


def test_the_source_distribution_carries_no_kernels(tree):
    """Whatever the targets, and whatever lies about: the same bytes."""
    contents = []
    for folder, targets in (("one", ""), ("other", "80;90")):
        done = build(tree, "sdist", "--dist-dir", folder, SPOTFAST_CUDA_TARGETS=targets, SOURCE_DATE_EPOCH=MOMENT)
        assert done.returncode == 0, done.stderr
        (archive,) = (tree / folder).glob("*.tar.gz")
        contents.append(archive.read_bytes())
        with tarfile.open(archive) as opened:
            names = opened.getnames()
        assert any(name.endswith("spotfast/cuda/manifest.py") for name in names)
        assert not [name for name in names if "/cuda/compiled" in name]
        lying_about = tree / "spotfast" / "cuda" / "compiled" / "manifest.json"
        lying_about.parent.mkdir(exist_ok=True)
        lying_about.touch()
    assert contents[0] == contents[1]
