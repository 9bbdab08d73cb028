"""The command line: what it prints, where, and its exit status."""

from __future__ import annotations

import struct
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import spotfast
from spotfast import backends
from spotfast.cli import chart, demo, doctor
from spotfast.cli.main import COMMANDS, main
from spotfast.cli.table import table
from spotfast.evaluation import ranking
from spotfast.interactions import Interactions

USERS, ITEMS = 30, 40


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Nothing from the environment of the tests has a say, and files go to a folder of the test's own."""
    for name in ("SPOTFAST_DATA_DIR", "SPOTFAST_BACKEND", "SPOTFAST_ISA", "TRITON_INTERPRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    backends._load_native.cache_clear()
    yield
    backends._load_native.cache_clear()


class TestMain:
    def test_version_in_a_process(self):
        command = [sys.executable, "-m", "spotfast", "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"spotfast {spotfast.__version__}\n", "")

    def test_version_and_help_do_not_wait_for_torch(self, run_python):
        code = "import sys\nfrom spotfast.cli.main import main\n"
        code += "try:\n    main(['{}'])\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
        assert run_python(code.format("--version")).splitlines() == [f"spotfast {spotfast.__version__}", "0 False"]
        shown = run_python(code.format("--help"))
        assert shown.endswith("0 False\n")
        assert all(command in shown for command in COMMANDS)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "arguments are required: command"),
            (["dmeo"], "invalid choice: 'dmeo'"),
            (["doctor", "--fast"], "unrecognized arguments: --fast"),
            (["demo", "--epochs", "0"], "--epochs: must be an integer in [1, 100000], got '0'"),
            (["demo", "--epochs", "ten"], "--epochs: must be an integer in [1, 100000], got 'ten'"),
            (["demo", "--seed", "-1"], "--seed: must be an integer in [0, 4294967295], got '-1'"),
        ],
    )
    def test_usage_errors(self, arguments, message, capsys):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("usage: python -m spotfast")
        assert message in shown.err

    def test_arguments_of_the_process(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["spotfast", "doctor"])
        assert main() == 0
        assert spotfast.__version__ in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_of_every_command(self, command, capsys):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert f"usage: python -m spotfast {command}" in capsys.readouterr().out

    def test_interrupt(self, monkeypatch, capsys):
        def interrupted():
            raise KeyboardInterrupt

        monkeypatch.setattr(doctor, "report", interrupted)
        assert main(["doctor"]) == 130
        assert capsys.readouterr().err == "spotfast doctor: interrupted\n"


def test_table():
    rows = [("a", "bcd", "e"), ("12345", "6", ""), ("x", "y", "z")]
    assert table(rows, "<><") == "a      bcd  e\n-----  ---  -\n12345    6\nx        y  z"
    assert table(rows[:1], "<><", header=False) == "a  bcd  e"


def words(text):
    """The cells of a printed table's rows, as lists of words."""
    return [line.split() for line in text.splitlines()]


@pytest.fixture
def report(capsys):
    """`report()`: the doctor's text."""

    def run():
        assert main(["doctor"]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return run


@pytest.fixture
def without(monkeypatch):
    """`without(names)`: modules that cannot be imported."""

    def block(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return block


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a made-up GPU")


class TestDoctor:
    def test_nothing_missing(self, report):
        rows = words(report())
        assert ["spotfast", spotfast.__version__] in rows
        assert ["torch", torch.__version__] in rows
        assert ["numpy", np.__version__] in rows
        assert ["C++", "extension", backends.native_isa()] in rows
        assert ["CUDA", "device", "none"] in rows or torch.cuda.is_available()
        assert ["threads", str(torch.get_num_threads())] in [row[:2] for row in rows]
        for operation, by_device in backends.OPERATIONS.items():
            assert [operation, "cpu", by_device["cpu"][0]] in rows
        if not torch.cuda.is_available():
            assert rows[-1] == ["Nothing", "is", "missing."]

    def test_without_the_extension(self, report, without):
        without("spotfast._native")
        text = report()
        assert ["C++", "extension", "missing"] in words(text)
        assert ["scores", "cpu", "reference", "native", "[1]"] in words(text)
        assert ["ranks", "cpu", "numba"] in words(text)
        section = text.split("\n\n")[-1].splitlines()
        assert section[0].startswith("[1] native: the C++ extension is missing (import of spotfast._native halted")
        slower = "philox, permutation, negatives, factorization_epoch, windows, scores, vector_ranks, vector_topk"
        assert section[1].split(":")[1].strip() == slower
        assert "the same results" in section[2]
        assert "times slower" in section[2]
        assert section[3].split(":", 1)[1].strip() == backends.REINSTALL

    def test_without_numba(self, report, without):
        without("numba")
        text = report()
        assert ["numba", "not", "installed"] in words(text)
        assert ["topk", "cpu", "reference", "numba", "[1]"] in words(text)
        assert "[1] numba: numba is not installed" in text
        assert text.endswith("Mend it:        pip install numba\n")

    def test_without_triton(self, report, without):
        """On the CPU it is not missed."""
        without("triton")
        text = report()
        assert ["triton", "not", "installed"] in words(text)
        if not torch.cuda.is_available():
            assert text.endswith("Nothing is missing.\n")

    @pytest.mark.usefixtures("cuda")
    def test_without_triton_on_cuda(self, report, without):
        without("triton")
        text = report()
        assert ["CUDA", "device", "a", "made-up", "GPU"] in words(text)
        assert ["negatives", "cuda", "reference", "triton", "[1]"] in words(text)
        assert ["scores", "cuda", "reference"] in words(text)
        assert ["windows", "cuda", "the", "CPU"] in words(text)
        assert "[1] triton: triton is not installed" in text
        assert "pip install 'spotfast[triton]'" in text
        assert "pip install -e '.[triton]'" in text

    def test_without_anything(self, report, without):
        without("spotfast._native", "numba", "triton")
        text = report()
        chosen = [row[2] for row in words(text) if row[1:2] == ["cpu"]]
        assert chosen == ["reference"] * len(backends.OPERATIONS)
        assert "[1] native: " in text
        assert "[2] numba: " in text

    @pytest.mark.usefixtures("cuda")
    def test_every_backend_has_a_remedy(self, monkeypatch, report):
        monkeypatch.setattr(backends, "missing", lambda name, _: None if name == "reference" else "gone")
        names = {name for by_device in backends.OPERATIONS.values() for row in by_device.values() for name in row}
        text = report()
        assert all(f"] {name}: gone" in text for name in names - {"reference"})

    def test_a_broken_package(self, report, monkeypatch, tmp_path):
        (tmp_path / "triton.py").write_text("from numpy import no_such_name")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "triton", raising=False)
        assert "installed, but broken: cannot import name 'no_such_name'" in report()

    def test_the_environment(self, report, monkeypatch):
        monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
        text = report()
        assert "SPOTFAST_BACKEND=reference is set" in text
        assert ["philox", "cpu", "reference"] in words(text)

    def test_a_build_for_lesser_cpus(self, report, monkeypatch):
        monkeypatch.setenv("SPOTFAST_ISA", "baseline")
        assert backends.native_isa() == "baseline"
        module = types.SimpleNamespace(cpu_has_avx2_fma=lambda: True)
        monkeypatch.setattr(backends, "native", lambda: module)
        assert "baseline, although this CPU has AVX2 and FMA" in report()

    def test_an_unknown_instruction_set(self, monkeypatch, capsys):
        monkeypatch.setenv("SPOTFAST_ISA", "avx512")
        assert main(["doctor"]) == 1
        expected = "spotfast doctor: SPOTFAST_ISA must be one of 'auto', 'baseline', got 'avx512'\n"
        assert capsys.readouterr() == ("", expected)


@pytest.fixture
def data(tmp_path):
    """A folder in the form of MovieLens 100K, with made-up ratings: two of three films by every user."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "ml-100k"
    folder.mkdir(parents=True)
    pairs = [(user, item) for user in range(1, USERS + 1) for item in range(1, ITEMS + 1) if (user + item) % 3]
    lines = [
        f"{user}\t{item}\t{rng.integers(1, 6)}\t{880000000 + number}\n" for number, (user, item) in enumerate(pairs)
    ]
    (folder / "u.data").write_text("".join(lines))
    titles = [f"{item}|Film {item} (1995)|01-Jan-1995\n" for item in range(1, ITEMS + 1)]
    (folder / "u.item").write_text("".join(titles), "latin-1")
    return folder.parent


class TestDemo:
    def test_from_end_to_end(self, data, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        picture = tmp_path / "losses.png"
        assert main(["demo", "--path", str(data), "--epochs", "2", "--seed", "3", "--output", str(picture)]) == 0
        out, err = capsys.readouterr()
        assert f"{USERS} users of {ITEMS} films" in out

        rows = words(out)
        start = rows.index(["model", "loss", "train", "s", "evaluate", "s", "MRR", "precision@10", "RMSE"]) + 2
        results = {row[1]: row for row in rows[start : start + 3]}
        assert list(results) == ["bpr", "adaptive_hinge", "regression"]
        assert all(float(row[2]) >= 0 and float(row[3]) >= 0 for row in results.values())
        for loss in ("bpr", "adaptive_hinge"):
            assert results[loss][0] == "implicit"
            assert 0 < float(results[loss][4]) <= 1
            assert 0 <= float(results[loss][5]) <= 1
            assert results[loss][6] == "-"
        assert results["regression"][0] == "explicit"
        assert results["regression"][4:6] == ["-", "-"]
        assert 0 < float(results["regression"][6]) < 5
        widths = {len(line) for line in out.splitlines()[start - 1 : start + 3]}
        assert len(widths) == 1  # aligned

        assert str(picture) in out
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        assert width > height > 100
        assert err.count("Epoch 1: loss ") == 3
        assert "Epoch" not in out

    def test_recommendations_are_no_training_items(self, data):
        interactions, titles = demo._load(str(data))
        train, test = demo.random_train_test_split(interactions, random_state=0)
        entry = demo._entries(epochs=1, seed=0)[0]
        entry.model.fit(train)
        user = demo._user(test, 0)
        favourites, recommended = demo._recommendations(entry, user, train, test, titles).split("Of the others")
        seen = {titles[item] for item in train.item_ids[train.user_ids == user]}
        hits = {titles[item] for item in test.item_ids[test.user_ids == user]}
        lines = [line for line in recommended.splitlines() if "Film" in line]
        assert len(lines) == 10
        for line in lines:
            film = line[line.index("Film") : line.index(")") + 1]
            assert film not in seen
            assert line.endswith("yes" if film in hits else "-")
        shown = [line.split(maxsplit=1) for line in favourites.splitlines() if "Film" in line]
        assert {film for _, film in shown} <= seen
        best = np.sort(train.ratings[train.user_ids == user])[::-1][: len(shown)]
        assert [float(rating) for rating, _ in shown] == best.tolist()

    def test_few_items_left(self):
        """The list of recommendations is cut where the films end."""
        train = Interactions([0, 0, 1], [1, 2, 3], ratings=[5, 4, 3], num_items=5)
        test = Interactions([0], [4], ratings=[5], num_users=2, num_items=5)
        entry = demo._entries(epochs=1, seed=0)[0]
        entry.model.fit(train)
        text = demo._recommendations(entry, 0, train, test, np.array(["", "A", "B", "C", "D"], object))
        places = [row for row in words(text.split("Of the others")[1]) if row and row[0].isdigit()]
        assert sorted(row[1:] for row in places) == [["C", "-"], ["D", "yes"]]

    def test_kernels_are_compiled_before_times_are_taken(self, data, monkeypatch):
        """Numba's, which rank rows of scores where vectors cannot be ranked in C++."""
        pytest.importorskip("numba")
        monkeypatch.setattr(ranking, "_vector_scorer", lambda model: None)
        from spotfast.parallel import ranks, topk

        def compiled():
            return [list(kernel._parallel.signatures) for kernel in (ranks.ranks, topk.topk)]

        demo._warm_up()
        before = compiled()
        assert all(before)
        train, test = demo.random_train_test_split(demo._load(str(data))[0], random_state=0)
        for entry in demo._entries(epochs=1, seed=0):
            demo._train(entry, train, test)
        assert compiled() == before

    def test_the_same_seed_gives_the_same(self, data, capsys):
        def scores():
            assert main(["demo", "--path", str(data), "--epochs", "1", "--seed", "5"]) == 0
            out = capsys.readouterr().out
            rows = [[*row[:2], *row[4:]] for row in words(out) if row[:1] in (["implicit"], ["explicit"])]
            return rows, out[out.index("User") :]

        assert scores() == scores()

    def test_without_matplotlib(self, data, tmp_path, monkeypatch, capsys):
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert main(["demo", "--path", str(data), "--epochs", "1"]) == 0
        out = capsys.readouterr().out
        assert "regression" in out
        assert "pip install 'spotfast[demo]'" in out.splitlines()[-1]
        assert not list(tmp_path.glob("*.png"))

    @pytest.mark.usefixtures("no_sources")
    def test_missing_data(self, capsys):
        assert main(["demo"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("spotfast demo: MovieLens 100K was found in no place and could not be downloaded:")
        assert "no network in tests" in err
        assert "SPOTFAST_DATA_DIR" in err

    def test_a_path_without_data(self, tmp_path, capsys):
        assert main(["demo", "--path", str(tmp_path / "nowhere")]) == 1
        assert "which does not exist" in capsys.readouterr().err

    def test_a_damaged_archive(self, tmp_path, capsys):
        (tmp_path / "ml-100k.zip").write_bytes(b"PK, but not really")
        assert main(["demo", "--path", str(tmp_path)]) == 1
        assert "is not a whole zip archive" in capsys.readouterr().err

    def test_output_without_a_folder(self, capsys):
        """This is known before the work begins."""
        assert main(["demo", "--output", "nowhere/losses.png"]) == 1
        assert capsys.readouterr() == (
            "",
            "spotfast demo: --output must be in a folder that exists, got nowhere/losses.png\n",
        )

    def test_output_that_cannot_be_written(self, data, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        (tmp_path / "folder").mkdir()
        assert main(["demo", "--path", str(data), "--epochs", "1", "--output", str(tmp_path / "folder")]) == 1
        out, err = capsys.readouterr()
        assert "regression" in out
        assert "spotfast demo: the chart cannot be written: " in err


@pytest.mark.parametrize("losses", [[0.5], [0.0, 0.0], [3.0, 2.0, 1.5]])
def test_chart_of_any_losses(losses, tmp_path):
    pytest.importorskip("matplotlib")
    chart.draw([chart.Curve("one", "loss", losses)] * 5, "title", tmp_path / "picture")
    assert (tmp_path / "picture").read_bytes().startswith(b"\x89PNG")
