"""The compiled kernels of an installation: found by what is launched, and refused if the sources have changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernels_to_launch import H100, key, ship

from spotfast import PerformanceWarning, backends
from spotfast.cuda import shipped
from spotfast.cuda.functions import find
from spotfast.cuda.shipped import Shipped
from spotfast.kernels import launch as launching


class TestShipped:
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

    @pytest.mark.usefixtures("library")
    def test_kernels_without_their_manifest(self, installed, tmp_path):
        """Something is wrong: it is not an installation that was made without kernels."""
        (tmp_path / "compiled" / "manifest.json").unlink()
        found = Shipped(tmp_path / "compiled", tmp_path / "kernels")
        assert (found.manifest, found.fault) == (None, True)
        with pytest.warns(PerformanceWarning, match=r"compiled kernels are missing: there is no .*manifest\.json"):
            assert find(key(), H100, True, found) is None

    def test_no_kernels(self, tmp_path):
        found = Shipped(tmp_path / "compiled", tmp_path)
        assert (found.manifest, found.fault, found.reason) == (
            None, False, "this installation carries no compiled kernels"
        )  # fmt: skip

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


def test_the_kernels_of_this_installation():
    """They are where the package is and belong to its sources; a checkout has none."""
    found = shipped.shipped()
    assert not found.fault, found.reason
