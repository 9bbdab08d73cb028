"""The demo: what it prints, where, what it leaves out, and its exit status."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest

from spotfast.cli import chart, demo
from spotfast.cli.main import main
from spotfast.evaluation import sequence_mrr_score, sources
from spotfast.interactions import Interactions

# The few films are rated more than once, so that test and training set share some.
pytestmark = pytest.mark.filterwarnings("ignore:.* test items are excluded")

USERS, ITEMS = 30, 40


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Nothing from the environment of the tests has a say, and files go to a folder of the test's own."""
    for name in ("SPOTFAST_DATA_DIR", "SPOTFAST_BACKEND", "SPOTFAST_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def words(text):
    """The cells of a printed table's rows, as lists of words."""
    return [line.split() for line in text.splitlines()]


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


def test_from_end_to_end(data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "losses.png"
    assert main(["demo", "--path", str(data), "--epochs", "2", "--seed", "3", "--output", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert f"{USERS} users of {ITEMS} films" in out

    rows = words(out)
    header = "model loss train s evaluate s MRR precision@10 RMSE sequence MRR"
    start = rows.index(header.split()) + 2
    *implicit, explicit, sequence = results = rows[start : start + 4]
    assert all(float(row[2]) >= 0 and float(row[3]) >= 0 for row in results)
    for row, loss in zip(implicit, ("bpr", "adaptive_hinge"), strict=True):
        assert row[:2] == ["implicit", loss]
        assert 0 < float(row[4]) <= 1
        assert 0 <= float(row[5]) <= 1
        assert row[6:] == ["-", "-"]
    assert explicit[:2] == ["explicit", "regression"]
    assert 0 < float(explicit[6]) < 5
    assert [*explicit[4:6], explicit[7]] == ["-", "-", "-"]
    assert sequence[:2] == ["sequence", "adaptive_hinge"]
    assert sequence[4:7] == ["-", "-", "-"]
    assert 0 < float(sequence[7]) <= 1
    widths = {len(line) for line in out.splitlines()[start - 1 : start + 4]}
    assert len(widths) == 1  # aligned

    assert str(picture) in out
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert width > height > 100
    assert err.count("Epoch 1: loss ") == 4
    assert "Epoch" not in out


def test_sequences_are_of_other_users(data):
    """And the model is asked for the last film of each, with those before it out of the ranking."""
    split = demo._split(demo._load(str(data))[0], seed=0)
    assert set(split.train_sequences.user_ids).isdisjoint(split.test_sequences.user_ids)
    assert split.train_sequences.max_sequence_length == demo.SEQUENCE_LENGTH
    films = np.count_nonzero(split.train_sequences.sequences) + np.count_nonzero(split.test_sequences.sequences)
    assert films == len(split.train) + len(split.test)
    entry = demo._entries(epochs=1, seed=0)[-1]
    demo._fit(entry, split)
    mean = sequence_mrr_score(entry.model, split.test_sequences, exclude_preceding=True).mean()
    assert demo._evaluate(entry, split) == {"sequence MRR": mean}


def test_recommendations_are_no_training_items(data):
    interactions, titles = demo._load(str(data))
    split = demo._split(interactions, seed=0)
    train, test = split.train, split.test
    entry = demo._entries(epochs=1, seed=0)[0]
    demo._fit(entry, split)
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


def test_few_items_left():
    """The list of recommendations is cut where the films end."""
    train = Interactions([0, 0, 1], [1, 2, 3], ratings=[5, 4, 3], num_items=5)
    test = Interactions([0], [4], ratings=[5], num_users=2, num_items=5)
    entry = demo._entries(epochs=1, seed=0)[0]
    entry.model.fit(train)
    text = demo._recommendations(entry, 0, train, test, np.array(["", "A", "B", "C", "D"], object))
    places = [row for row in words(text.split("Of the others")[1]) if row and row[0].isdigit()]
    assert sorted(row[1:] for row in places) == [["C", "-"], ["D", "yes"]]


def test_kernels_are_compiled_before_times_are_taken(data, monkeypatch):
    """Numba's, which rank rows of scores where vectors cannot be ranked in C++."""
    pytest.importorskip("numba")
    monkeypatch.setattr(sources.OwnModel, "by_vectors", False)
    from spotfast.parallel import ranks, topk

    def compiled():
        return [list(kernel._parallel.signatures) for kernel in (ranks.ranks, topk.topk)]

    demo._warm_up()
    before = compiled()
    assert all(before)
    split = demo._split(demo._load(str(data))[0], seed=0)
    for entry in demo._entries(epochs=1, seed=0):
        demo._train(entry, split)
    assert compiled() == before


def test_the_same_seed_gives_the_same(data, capsys):
    def scores():
        assert main(["demo", "--path", str(data), "--epochs", "1", "--seed", "5"]) == 0
        out = capsys.readouterr().out
        rows = [[*row[:2], *row[4:]] for row in words(out) if row[:1] in (["implicit"], ["explicit"], ["sequence"])]
        assert len(rows) == 4
        return rows, out[out.index("User") :]

    assert scores() == scores()


def test_without_matplotlib(data, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo", "--path", str(data), "--epochs", "1"]) == 0
    out = capsys.readouterr().out
    assert "regression" in out
    assert "pip install 'spotfast[demo]'" in out.splitlines()[-1]
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.usefixtures("no_sources")
def test_missing_data(capsys):
    assert main(["demo"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("spotfast demo: MovieLens 100K was found in no place and could not be downloaded:")
    assert "no network in tests" in err
    assert "SPOTFAST_DATA_DIR" in err


def test_a_path_without_data(tmp_path, capsys):
    assert main(["demo", "--path", str(tmp_path / "nowhere")]) == 1
    assert "which does not exist" in capsys.readouterr().err


def test_a_damaged_archive(tmp_path, capsys):
    (tmp_path / "ml-100k.zip").write_bytes(b"PK, but not really")
    assert main(["demo", "--path", str(tmp_path)]) == 1
    assert "is not a whole zip archive" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("nowhere/losses.png", "must be in a folder that exists, got nowhere/losses.png"),
        ("folder", "must be a file, got the folder folder"),
        (".", "must be a file, got the folder ."),
        ("losses.xyz", "must be a PNG file, as losses.png, got losses.xyz"),
    ],
)
def test_outputs_that_cannot_be_written(output, message, tmp_path, monkeypatch, capsys):
    """This is known before the work begins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["demo", "--output", output]) == 1
    assert capsys.readouterr() == ("", f"spotfast demo: --output {message}\n")


def test_an_output_that_cannot_be_written_after_all(data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "losses.png")
    assert main(["demo", "--path", str(data), "--epochs", "1", "--output", str(tmp_path / "link")]) == 1
    out, err = capsys.readouterr()
    assert "regression" in out
    assert "spotfast demo: the chart cannot be written: " in err


@pytest.mark.parametrize("losses", [[0.5], [0.0, 0.0], [3.0, 2.0, 1.5]])
def test_chart_of_any_losses(losses, tmp_path):
    pytest.importorskip("matplotlib")
    chart.draw([chart.Curve("one", "loss", losses)] * 5, "title", tmp_path / "picture")
    assert (tmp_path / "picture").read_bytes().startswith(b"\x89PNG")
