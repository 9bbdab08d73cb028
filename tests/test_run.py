"""`python -m spotfast run`: as python runs a script, with `spotlight` there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import spotfast
from spotfast.cli.main import main


def process(arguments, folder, given=""):
    done = subprocess.run(
        [sys.executable, *arguments], input=given, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


SCRIPTS = {
    "what python sets": """
import sys
print(sys.argv, sys.path[0], __name__, sorted({*globals()} - {"__annotations__"}))  # which depends on the version
print(__file__, __spec__, __package__, __doc__, __cached__, __builtins__, type(__loader__), __loader__.name)
print(sys.modules["__main__"].__dict__ is globals())
""",
    "a docstring": '"""What it is for."""\nprint(__doc__)',
    "an exception": "def fail():\n    raise ValueError('a value')\n\nfail()",
    "two exceptions": "try:\n    {}['key']\nexcept KeyError as error:\n    raise ValueError('a value') from error",
    "a status": "import sys\nsys.exit(7)",
    "a text for a status": "import sys\nsys.exit('could not')",
    "an interrupt": "raise KeyboardInterrupt",
    "no python": "print('not printed')\nx = = 1",
    "a hook of its own": "import sys\nsys.excepthook = lambda *error: print('hook', error[1])\nraise ValueError('a')",
    "the end": "import atexit\nvalue = 1\natexit.register(lambda: print('end', value, __import__('__main__').value))",
    "a thread": "import threading\nvalue = 1\nevent = threading.Event()\n"
    "threading.Thread(target=lambda: (event.wait(), print(value))).start()\nevent.set()",
    "a sibling": "import sibling\nprint(sibling.VALUE)",
    "source of its own": "import inspect\ndef f(): pass\nprint(inspect.getsource(f))",
    "no future": "def f(x: 'not evaluated') -> int: pass\nprint(f.__annotations__)",
}


class TestRun:
    @pytest.mark.parametrize("name", SCRIPTS)
    def test_a_script_runs_as_python_runs_it(self, name, tmp_path):
        script = Path("folder") / "script.py"
        (tmp_path / "folder").mkdir()
        (tmp_path / script).write_text(SCRIPTS[name])
        (tmp_path / "folder" / "sibling.py").write_text("VALUE = 'from the folder'")
        arguments = [str(script), "--version", "--", "doctor", "-h"]
        expected = process(arguments, tmp_path)
        assert process(["-m", "spotfast", "run", *arguments], tmp_path) == expected

    def test_arguments_begin_right_after_the_script(self, tmp_path):
        (tmp_path / "script.py").write_text("import sys\nprint(sys.argv)")
        done = process(["-m", "spotfast", "run", "script.py", "--", "x"], tmp_path)
        assert done == (0, "['script.py', '--', 'x']\n", "")

    @pytest.mark.parametrize("safe", [[], ["-P"]])
    @pytest.mark.parametrize(
        "source",
        [
            SCRIPTS["what python sets"].replace(", __loader__.name", ""),
            "def fail():\n    raise ValueError(input())\n\nfail()",
            "x = = 1",
            "import sys, sibling\nsys.exit(sibling.VALUE)",
        ],
    )
    def test_a_script_from_standard_input(self, source, safe, tmp_path):
        (tmp_path / "sibling.py").write_text("VALUE = 7")
        arguments = ["-", "argument", "--", "-h"]
        expected = process([*safe, *arguments], tmp_path, source)
        assert process([*safe, "-m", "spotfast", "run", *arguments], tmp_path, source) == expected

    def test_the_encoding_that_a_script_declares(self, tmp_path):
        (tmp_path / "script.py").write_bytes("# coding: latin-1\nprint(ascii('é'))".encode("latin-1"))
        assert process(["-m", "spotfast", "run", "script.py"], tmp_path) == (0, "'\\xe9'\n", "")

    def test_a_link_to_a_script(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "script.py").write_text("import sys\nprint(sys.path[0], __file__, sys.argv)")
        os.symlink(tmp_path / "folder" / "script.py", tmp_path / "link.py")
        assert process(["-m", "spotfast", "run", "link.py"], tmp_path) == process(["link.py"], tmp_path)

    def test_the_safe_mode_of_python(self, tmp_path):
        (tmp_path / "script.py").write_text("import sys\nprint(sys.path)")
        expected = process(["-P", "script.py"], tmp_path)
        assert process(["-P", "-m", "spotfast", "run", "script.py"], tmp_path) == expected

    def test_spotlight_is_there_without_waiting_for_torch(self, tmp_path):
        (tmp_path / "script.py").write_text("import sys, spotlight\nprint(spotlight.__name__, 'torch' in sys.modules)")
        assert process(["-m", "spotfast", "run", "script.py", "doctor"], tmp_path) == (0, "spotfast False\n", "")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "the following arguments are required: SCRIPT.py"),
            (["missing.py"], "cannot read 'missing.py': No such file or directory"),
            (["."], "cannot read '.': Is a directory"),
            (["--fast", "script.py"], "unrecognized arguments: --fast"),
        ],
    )
    def test_usage_errors(self, arguments, message, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "script.py").write_text("")
        with pytest.raises(SystemExit) as end:
            main(["run", *arguments])
        assert end.value.code == 2
        shown = capsys.readouterr().err
        assert shown.startswith("usage: python -m spotfast")
        assert message in shown

    @pytest.fixture
    def in_this_process(self, tmp_path, monkeypatch):
        """`in_this_process(source)`: run a script here; what it sets in `sys` is put back."""
        monkeypatch.setattr(sys, "argv", sys.argv)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
        monkeypatch.setitem(sys.modules, "spotlight", spotfast)

        def run(source):
            (tmp_path / "script.py").write_text(source)
            return main(["run", str(tmp_path / "script.py"), "argument"])

        return run

    def test_the_status_of_a_script_that_ends(self, in_this_process, capsys):
        assert in_this_process("import sys\nprint(sys.argv[1:])") == 0
        assert capsys.readouterr() == ("['argument']\n", "")

    @pytest.mark.parametrize("name", ["KeyboardInterrupt", "SystemExit", "ValueError"])
    def test_what_a_script_raises_is_not_caught(self, in_this_process, name):
        with pytest.raises((KeyboardInterrupt, SystemExit, ValueError)) as error:
            in_this_process(f"raise {name}('text')")
        assert error.type.__name__ == name

    def test_a_traceback_begins_with_the_script(self, in_this_process, capsys):
        with pytest.raises(ValueError, match="text") as error:
            in_this_process("raise ValueError('text')")
        sys.excepthook(error.type, error.value, error.tb)
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("Traceback")
        assert "script.py" in lines[1]
        assert lines[-1] == "ValueError: text"
