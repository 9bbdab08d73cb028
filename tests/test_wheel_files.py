"""How wheels are built, checked and published: the configuration, the workflows and their scripts agree."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from spotfast.cuda.build import TARGETS
from spotfast.cuda.jit import OLDEST_TRITON

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEELS = PROJECT["tool"]["cibuildwheel"]
PYTHONS = [name.rsplit(" ", 1)[1] for name in PROJECT["project"]["classifiers"] if ":: Python :: 3." in name]


class TestConfiguration:
    def test_wheels_for_every_python_of_the_classifiers(self):
        minors = re.fullmatch(r"cp3\{([\d,]+)\}-\*", WHEELS["build"]).group(1).split(",")
        assert [f"3.{minor}" for minor in minors] == PYTHONS
        assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"

    def test_a_failed_compilation_is_an_error_everywhere(self):
        assert WHEELS["environment"]["SPOTFAST_REQUIRE_EXT"] == "1"
        assert WHEELS["macos"]["environment"]["SPOTFAST_REQUIRE_EXT"] == "1"  # it replaces the one for all

    def test_every_wheel_is_repaired_and_tested(self):
        tools = {"linux": "auditwheel", "macos": "delocate-wheel", "windows": "delvewheel"}
        for platform, tool in tools.items():
            assert WHEELS[platform]["repair-wheel-command"].startswith(tool)
        assert WHEELS["manylinux-x86_64-image"] == WHEELS["manylinux-aarch64-image"] == "manylinux_2_28"
        named = re.search(r"\{project\}/(\S+)", WHEELS["test-command"]).group(1)
        assert (ROOT / named).is_file()
        assert set(WHEELS["test-extras"]) <= PROJECT["project"]["optional-dependencies"].keys()

    def test_what_is_built_with_is_pinned(self):
        constraints = ROOT / WHEELS["build-frontend"]["args"][-1]
        pinned = set(re.findall(r"^([\w-]+)==", constraints.read_text("utf-8"), re.MULTILINE))
        needed = {re.split(r"[><=~]", name)[0] for name in PROJECT["build-system"]["requires"]}
        assert needed | {"triton", "torch", "numpy"} <= pinned

    def test_the_source_distribution_has_what_the_tests_read(self):
        manifest = (ROOT / "MANIFEST.in").read_text("utf-8")
        for folder in (".github", "scripts", "tests", "csrc", "kernels", "docs"):
            assert f"graft {folder}\n" in manifest

    def test_the_source_distribution_has_what_make_reads(self):
        """Without its configuration, clang-format finds fault with every file."""
        included = re.search(r"^include (.*)$", (ROOT / "MANIFEST.in").read_text("utf-8"), re.MULTILINE).group(1)
        assert {"Makefile", "constraints.txt", ".clang-format"} <= set(included.split())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflows:
    def test_actions_are_pinned_to_a_version(self, workflow):
        used = re.findall(r"uses: (\S+)", workflow.read_text("utf-8"))
        assert used
        assert not [name for name in used if not re.fullmatch(r"[\w./-]+@v\d+(\.\d+)*", name)]

    def test_rights_are_few(self, workflow):
        text = workflow.read_text("utf-8")
        assert re.search(r"^permissions:\n  contents: read\n", text, re.MULTILINE)
        granted = [line.split("#")[0].strip() for line in text.splitlines() if re.match(r"\s+\S+: write\b", line)]
        assert granted == (["id-token: write"] if workflow.name == "wheels.yml" else [])
        assert "secrets." not in text
        checkouts = text.count("uses: actions/checkout@")
        assert checkouts == text.count("persist-credentials: false")

    def test_every_job_ends(self, workflow):
        text = workflow.read_text("utf-8")
        assert text.count("runs-on:") == text.count("timeout-minutes:") >= 1
        assert "concurrency:" in text

    def test_the_scripts_and_targets_that_steps_call_exist(self, workflow):
        text = workflow.read_text("utf-8")
        called = re.findall(r"python (scripts/\w+\.py)", text)
        assert not [name for name in called if not (ROOT / name).is_file()]
        targets = re.findall(r"make ([a-z-]+)", text)
        makefile = (ROOT / "Makefile").read_text("utf-8")
        assert not [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]
        assert called or targets


@pytest.mark.parametrize("name", ["tests.yml", "wheels.yml"])
def test_every_python_is_tested(name):
    text = (ROOT / ".github" / "workflows" / name).read_text("utf-8")
    assert re.findall(r'"([\d.]+)"', re.search(r"python: \[(.*)\]", text).group(1)) == PYTHONS


def test_the_oldest_triton_is_tested():
    oldest = ".".join(map(str, OLDEST_TRITON))
    assert PROJECT["project"]["optional-dependencies"]["triton"] == [f"triton>={oldest}; sys_platform == 'linux'"]
    assert f"\nTRITON ?= {oldest}.0\n" in (ROOT / "Makefile").read_text("utf-8")
    assert f'triton: "{oldest}.0"' in (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")


def test_there_are_workflows():
    assert [path.name for path in WORKFLOWS] == ["libraries.yml", "tests.yml", "wheels.yml"]


def test_linux_wheels_carry_kernels_for_every_target():
    text = (ROOT / ".github" / "workflows" / "wheels.yml").read_text("utf-8")
    given = dict(re.findall(r'platform: (\S+), runner: \S+, cuda_targets: "(.*)"', text))
    for platform, targets in given.items():
        assert targets == (";".join(TARGETS) if platform.startswith("linux") else "")
    assert len(given) == 4


def test_wheels_are_built_for_every_change_of_what_they_hold():
    """Kernels and Python files as much as C++: what they are compiled from, and what they are checked with."""
    text = (ROOT / ".github" / "workflows" / "wheels.yml").read_text("utf-8")
    filters = re.search(r"pull_request:\n    paths:\n((?:      - .*\n)+)", text).group(1)
    watched = {line.removeprefix("      - ") for line in filters.splitlines()}
    folders = {Path(path).parts[0] for path in PROJECT["tool"]["setuptools"]["package-dir"].values()} | {"spotfast"}
    assert {f"{folder}/**" for folder in (*folders, "csrc", "scripts")} <= watched
    assert {"setup.py", "pyproject.toml", "MANIFEST.in", "constraints.txt"} <= watched


class TestInstalled:
    """scripts/check_installed.py"""

    def test_compilers_are_off_the_path(self, script, tmp_path, monkeypatch, capsys):
        check = script("check_installed")
        suffix = ".exe" if os.name == "nt" else ""
        for folder, name in (("with", "gcc"), ("without", "sed")):
            program = tmp_path / folder / f"{name}{suffix}"
            program.parent.mkdir()
            program.write_text("")
            program.chmod(0o755)
        path = os.pathsep.join([str(tmp_path / "with"), str(tmp_path / "without"), str(tmp_path / "none"), ""])
        kept = check.without_compilers({"PATH": path, "CC": "gcc", "PYTHONPATH": "here", "HOME": "there"})
        assert kept == {"PATH": os.pathsep.join([str(tmp_path / "without"), str(tmp_path / "none")]), "HOME": "there"}
        assert shutil.which("gcc", path=kept["PATH"]) is None
        assert str(tmp_path / "with") in capsys.readouterr().out

    def test_a_checkout_is_not_an_installation(self, script, tmp_path, run_python):
        (tmp_path / "spotfast").mkdir()
        (tmp_path / "spotfast" / "__init__.py").write_text("__version__ = 'other'\n")
        (tmp_path / "spotfast" / "backends.py").write_text("")
        guarded = (
            f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\ntry:\n    exec({script('check_installed').LOOK!r})"
        )
        printed = run_python(f"{guarded}\nexcept SystemExit as end:\n    print(end.code)")
        assert "not from this environment's packages" in printed


class TestReproducible:
    """scripts/check_reproducible.py"""

    @pytest.fixture
    def check(self, script):
        return script("check_reproducible")

    @pytest.fixture
    def folders(self, tmp_path):
        folders = tmp_path / "first", tmp_path / "second"
        for folder in folders:
            folder.mkdir()
        return folders

    def wheel(self, folder, data=b"data", date=(2026, 1, 1, 0, 0, 0), more=()):
        path = folder / "spotfast-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("same.py", "other.py", *more):
                archive.writestr(zipfile.ZipInfo(name, date), data if name == "other.py" else b"")
        return path

    def sdist(self, folder, moment=0, level=9):
        path = folder / "spotfast-1.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=level) as archive:
            member = tarfile.TarInfo("spotfast-1/setup.py")
            member.size, member.mtime = 1000, moment
            archive.addfile(member, io.BytesIO(bytes(range(250)) * 4))
        return path

    def test_the_same_bytes(self, check, folders, capsys):
        for folder in folders:
            self.wheel(folder)
        assert check.compare(*folders) == []
        assert re.fullmatch(r"[0-9a-f]{64}  spotfast-1-py3-none-any.whl  \d+ bytes\n", capsys.readouterr().out)

    def test_the_member_that_differs_is_named(self, check, folders):
        self.wheel(folders[0])
        self.wheel(folders[1], data=b"others")
        assert check.compare(*folders) == [
            "spotfast-1-py3-none-any.whl: other.py: contents differ (4 and 6 bytes)",
        ]

    def test_times_and_members_too_many(self, check, folders):
        one = self.wheel(folders[0])
        other = self.wheel(folders[1], date=(2026, 1, 2, 0, 0, 0), more=["more.py"])
        found = check.differences(one, other)
        assert found[0] == "more.py: in one archive only"
        assert [line.split(":")[0] for line in found[1:]] == ["other.py", "same.py"]
        assert "2026, 1, 2" in found[1]

    def test_source_distributions(self, check, folders):
        assert "time 7" in check.differences(self.sdist(folders[0]), self.sdist(folders[1], moment=7))[0]
        found = check.differences(self.sdist(folders[0]), self.sdist(folders[1], level=0))
        assert found == ["the members are the same: the archive's own header or compression differs"]

    def test_built_only_once(self, check, folders):
        self.wheel(folders[1])
        assert check.compare(*folders) == ["spotfast-1-py3-none-any.whl: built only once"]

    def test_a_build_that_fails_is_shown(self, check, tmp_path, monkeypatch):
        (tmp_path / "tree").mkdir()
        monkeypatch.setattr(check, "ROOT", tmp_path / "tree")  # nothing to build
        monkeypatch.setattr(sys, "executable", shutil.which("false") or sys.executable)
        with pytest.raises(SystemExit, match="the build of copy failed"):
            check.build(tmp_path / "copy", {}, [])
