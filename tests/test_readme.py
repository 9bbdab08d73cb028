"""The Python snippets of the README and of the guides run as they are written, one after the other."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from spotfast.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]


def snippets(document):
    found = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)
    assert len(found) >= 2
    return "\n".join(found)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("README.md", marks=pytest.mark.slow),  # its snippets need data
        "docs/coming_from_spotlight.md",
        "docs/training.md",
    ],
)
def test_snippets_run(document, run_python, tmp_path):
    settings = {name: value for name, value in os.environ.items() if name.startswith("SPOTFAST_")}  # where data are
    assert run_python(f"import os\nos.chdir({str(tmp_path)!r})\n{snippets(document)}", **settings)


def test_the_readme_says_what_a_newcomer_needs():
    readme = (ROOT / "README.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (torch,) = (each.removeprefix("torch>=") for each in project["dependencies"] if each.startswith("torch"))
    assert f"Python {project['requires-python'].removeprefix('>=')}, torch {torch} (or later)" in readme
    for command in COMMANDS:
        assert f"python -m spotfast {command}" in readme
    for name in ("SPOTFAST_DATA_DIR", "ExplicitFactorizationModel", "weights=", "`random_state`", ".save(", ".load("):
        assert name in readme
