"""MovieLens: every format, every place it may be, and what is said about files that are not as they should be."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest

from spotfast.datasets import movielens, ratings
from spotfast.datasets.movielens import VARIANTS, get_movielens_dataset, get_movielens_titles
from spotfast.datasets.sources import Website, Wheel
from spotfast.datasets.transport import DataUnavailableError, DownloadError
from spotfast.interactions import Interactions

# The first lines of the real files in form; ids, ratings and times are made up.
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
RATINGS = {
    "u.data": "7\t3\t4\t881250949\n2\t5\t1\t891717742\n7\t1\t5\t878887116\n",
    "ml-100k.inter": INTER + "7\t3\t4\t881250949\n2\t5\t1\t891717742\n7\t1\t5\t878887116\n",
    "ml-1m/ratings.dat": "7::3::4::881250949\n2::5::1::891717742\n7::1::5::878887116\n",
    "ml-10M100K/ratings.dat": "7::3::4::881250949\n2::5::1::891717742\n7::1::5::878887116\n",
    "ml-20m/ratings.csv": "userId,movieId,rating,timestamp\n7,3,4.0,881250949\n2,5,1.0,891717742\n7,1,5.0,878887116\n",
}
TITLES = {
    "u.item": (
        "1|Les Misérables (1995)|01-Jan-1995||http://example.com/?Les%20Mis%E9rables|0|0|1\n"
        "3|unknown||||1|0|0\n5|Copycat (1995)|01-Jan-1995|||0|0|1\n9|Not rated (1999)|||0|0|1\n"
    ).encode("latin-1"),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tLes Misérables\t1995\tDrama\n3\tunknown\tunknown\tunknown\n5\tCopycat\t1995\tCrime Drama\n"
    ).encode(),
    "ml-1m/movies.dat": (
        "1::Les Misérables (1995)::Drama\n3::unknown::Comedy|Drama\n5::Copycat (1995)::Crime\n"
    ).encode("latin-1"),
    "ml-10M100K/movies.dat": (
        "1::Les Misérables (1995)::Drama\n3::unknown::Comedy|Drama\n5::Copycat (1995)::Crime\n"
    ).encode(),
    "ml-20m/movies.csv": (
        'movieId,title,genres\r\n1,Les Misérables (1995),Drama\r\n3,"unknown",Comedy|Drama\r\n'
        '5,"Copycat (1995)",Crime\r\n'
    ).encode(),
}
FILES = {  # for each variant, a file of ratings with its file of titles
    "100K": [("u.data", "u.item"), ("ml-100k.inter", "ml-100k.item")],
    "1M": [("ml-1m/ratings.dat", "ml-1m/movies.dat")],
    "10M": [("ml-10M100K/ratings.dat", "ml-10M100K/movies.dat")],
    "20M": [("ml-20m/ratings.csv", "ml-20m/movies.csv")],
}
CASES = [(variant, *names) for variant in VARIANTS for names in FILES[variant]]
FOLDER = {"100K": "ml-100k", "1M": "ml-1m", "10M": "ml-10M100K", "20M": "ml-20m"}
ARCHIVE = {"100K": "ml-100k.zip", "1M": "ml-1m.zip", "10M": "ml-10m.zip", "20M": "ml-20m.zip"}
WHEEL = "recbole-1.2.1-py3-none-any.whl"
IN_WHEEL = "recbole/dataset_example/ml-100k/"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """No test reads what is on this machine, and none leaves it: the sources fail unless a test gives others."""
    monkeypatch.delenv("SPOTFAST_DATA_DIR", raising=False)
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(tmp_path / "cache"))

    def fail(self, folder):
        raise DownloadError("no network in tests")

    monkeypatch.setattr(Website, "fetch", fail)
    monkeypatch.setattr(Wheel, "fetch", fail)
    return tmp_path / "cache" / "movielens"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_zip(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def own_name(name):
    return name.rpartition("/")[2]


def check(data):
    assert isinstance(data, Interactions)
    assert data.user_ids.tolist() == [7, 2, 7]
    assert data.item_ids.tolist() == [3, 5, 1]
    assert data.ratings.tolist() == [4.0, 1.0, 5.0]
    assert data.timestamps.tolist() == [881250949, 891717742, 878887116]
    assert (data.num_users, data.num_items) == (8, 6)
    arrays = (data.user_ids, data.item_ids, data.ratings, data.timestamps)
    assert [array.dtype for array in arrays] == [np.int32, np.int32, np.float32, np.int32]
    assert all(array.flags.writeable and array.base is None for array in arrays)
    assert data.weights is None


@pytest.mark.parametrize(("variant", "name", "titles"), CASES)
class TestEveryFormat:
    def test_in_folders(self, variant, name, titles, tmp_path):
        own = write(tmp_path / "own" / FOLDER[variant] / own_name(name), RATINGS[name])
        for path in (own, own.parent, str(tmp_path / "own")):
            check(get_movielens_dataset(variant, path))
        write(tmp_path / own_name(name), RATINGS[name])
        check(get_movielens_dataset(variant, tmp_path))

    def test_in_archives(self, variant, name, titles, tmp_path):
        for number, parent in enumerate(["", "{}/", "./{}/", "far/down/{}/"]):
            member = parent.format(FOLDER[variant]) + own_name(name)
            members = {"readme": "", f"__MACOSX/._{own_name(name)}": "", member: RATINGS[name]}
            archive = write_zip(tmp_path / str(number) / ARCHIVE[variant], members)
            check(get_movielens_dataset(variant, archive))
            check(get_movielens_dataset(variant, archive.parent))
            check(get_movielens_dataset(variant, archive.rename(tmp_path / "renamed")))

    def test_in_the_users_folder_and_the_cache(self, variant, name, titles, monkeypatch, tmp_path, cache):
        write_zip(cache / ARCHIVE[variant], {f"{FOLDER[variant]}/{own_name(name)}": RATINGS[name]})
        check(get_movielens_dataset(variant))
        monkeypatch.setenv("SPOTFAST_DATA_DIR", str(tmp_path / "data"))
        check(get_movielens_dataset(variant))
        write(tmp_path / "data" / own_name(name), RATINGS[name] + RATINGS[name].split("\n")[-2])
        assert len(get_movielens_dataset(variant)) == 4

    def test_fetched_once_and_kept(self, variant, name, titles, monkeypatch, cache):
        fetched = []

        def fetch(self, folder):
            fetched.append(str(self))
            members = {own_name(name): RATINGS[name], own_name(titles): TITLES[titles]}
            return write_zip(folder / (WHEEL if isinstance(self, Wheel) else ARCHIVE[variant]), members)

        monkeypatch.setattr(Wheel if "100k." in name else Website, "fetch", fetch)
        check(get_movielens_dataset(variant))
        check(get_movielens_dataset(variant))
        assert get_movielens_titles(variant)[5] == "Copycat (1995)"
        assert len(fetched) == len(list(cache.iterdir())) == 1

    def test_titles(self, variant, name, titles, tmp_path):
        write(tmp_path / own_name(name), RATINGS[name])
        write(tmp_path / own_name(titles), TITLES[titles])
        result = get_movielens_titles(variant, tmp_path)
        assert result.tolist() == ["", "Les Misérables (1995)", "", "unknown", "", "Copycat (1995)"]
        assert result.dtype == object

    @pytest.mark.parametrize("content", [b"", b"what is this\n", b"\xff\xfe\xff"])
    def test_titles_malformed(self, variant, name, titles, content, tmp_path):
        write(tmp_path / own_name(name), RATINGS[name])
        headed = titles.endswith((".csv", "k.item"))
        head = TITLES[titles].split(b"\n")[0] + b"\n" if headed and content else b""
        write(tmp_path / own_name(titles), head + content)
        if content or headed:
            with pytest.raises(ValueError, match=own_name(titles)):
                get_movielens_titles(variant, tmp_path)
        else:
            assert get_movielens_titles(variant, tmp_path).tolist() == [""] * 6


def test_titles_in_a_csv_file_with_a_line_break_inside(tmp_path):
    write(tmp_path / "ratings.csv", RATINGS["ml-20m/ratings.csv"])
    write(tmp_path / "movies.csv", "movieId,title,genres\n1,Toy\rStory,Drama\n")
    with pytest.raises(ValueError, match=r"movies\.csv, line 2: expected 'movieId,title,genres': "):
        get_movielens_titles("20M", tmp_path)


class TestPlaces:
    def test_unknown_variant(self):
        message = "variant must be one of '100K', '1M', '10M', '20M', got '100k'"
        for function in (get_movielens_dataset, get_movielens_titles):
            with pytest.raises(ValueError, match=message):
                function("100k")

    def test_the_wheel(self, tmp_path):
        members = {
            IN_WHEEL + "ml-100k.inter": RATINGS["ml-100k.inter"],
            IN_WHEEL + "ml-100k.item": TITLES["ml-100k.item"],
        }
        wheel = write_zip(tmp_path / WHEEL, members)
        for path in (wheel, tmp_path):
            check(get_movielens_dataset("100K", path))
            assert get_movielens_titles("100K", path)[5] == "Copycat (1995)"

    def test_the_installed_wheel(self, tmp_path):
        write(tmp_path / IN_WHEEL / "ml-100k.inter", RATINGS["ml-100k.inter"])
        check(get_movielens_dataset("100K", tmp_path))

    def test_path_without_the_data(self, tmp_path):
        (tmp_path / "notes.txt").write_text("hello")
        for path in (tmp_path, tmp_path / "nowhere", tmp_path / "notes.txt"):
            with pytest.raises(
                FileNotFoundError, match=r"path must hold .*u\.data.*ml-100k\.zip.*; found none in"
            ) as caught:
                get_movielens_dataset("100K", path)
            assert str(path) in str(caught.value)

    def test_path_without_titles(self, tmp_path):
        write(tmp_path / "u.data", RATINGS["u.data"])
        with pytest.raises(FileNotFoundError, match=r"MovieLens 100K's titles as one of u\.item, "):
            get_movielens_titles("100K", tmp_path)

    def test_path_comes_first(self, monkeypatch, tmp_path):
        write(tmp_path / "mine" / "u.data", RATINGS["u.data"])
        write(tmp_path / "other" / "u.data", "1\t1\t1\t1\n")
        monkeypatch.setenv("SPOTFAST_DATA_DIR", str(tmp_path / "other"))
        check(get_movielens_dataset("100K", tmp_path / "mine"))
        assert len(get_movielens_dataset("100K")) == 1

    @pytest.mark.parametrize(("variant", "other"), [("1M", "10M"), ("10M", "1M")])
    def test_another_variant_with_files_of_the_same_name(self, variant, other, tmp_path):
        folder = tmp_path / FOLDER[other]
        write(folder / "ratings.dat", RATINGS["ml-1m/ratings.dat"])
        archive = write_zip(tmp_path / "x.zip", {f"{FOLDER[other]}/ratings.dat": RATINGS["ml-1m/ratings.dat"]})
        for path in (folder, archive, tmp_path):
            with pytest.raises(FileNotFoundError):
                get_movielens_dataset(variant, path)

    def test_too_many_ratings_for_the_variant(self, tmp_path):
        write(tmp_path / "u.data", "1\t1\t1\t1\n" * 100_001)
        with pytest.raises(ValueError, match="not MovieLens 100K, which has 100000 ratings: it has 100001"):
            get_movielens_dataset("100K", tmp_path)

    def test_another_data_set_in_the_users_folder(self, monkeypatch, tmp_path, cache):
        monkeypatch.setenv("SPOTFAST_DATA_DIR", str(tmp_path / "data"))
        write(tmp_path / "data" / "ratings.csv", "user_id,book_id,rating\n1,258,5\n")
        with pytest.raises(DataUnavailableError, match=r"ratings\.csv is another data set's"):
            get_movielens_dataset("20M")
        write(cache / "ml-20m" / "ratings.csv", RATINGS["ml-20m/ratings.csv"])
        check(get_movielens_dataset("20M"))
        with pytest.raises(ValueError, match=r"ratings\.csv must start with the line 'userId,movieId"):
            get_movielens_dataset("20M", tmp_path / "data")

    @pytest.mark.parametrize("damage", ["truncated", "flipped", "no zip"])
    def test_damaged_archive(self, damage, tmp_path):
        archive = tmp_path / "ml-100k.zip"
        with zipfile.ZipFile(archive, "w") as stored:
            stored.writestr("ml-100k/u.data", RATINGS["u.data"] * 1000)
        whole = archive.read_bytes()
        content = {"truncated": whole[:-50], "flipped": whole.replace(b"7", b"x", 1), "no zip": b"<html>"}
        archive.write_bytes(content[damage])
        for path in (archive, tmp_path):
            with pytest.raises(ValueError, match=r"ml-100k\.zip is not a whole zip archive \(.*\): delete it"):
                get_movielens_dataset("100K", path)


class TestSources:
    def test_the_last_reason_and_all_before(self, monkeypatch, tmp_path, cache):
        monkeypatch.setenv("SPOTFAST_DATA_DIR", str(tmp_path))
        with pytest.raises(DataUnavailableError) as caught:
            get_movielens_dataset("100K")
        lines = str(caught.value).split("\n")
        assert [line.split(": ")[0] for line in lines[:5]] == [
            "MovieLens 100K was found in no place and could not be downloaded:",
            f"  - SPOTFAST_DATA_DIR, {tmp_path}",
            f"  - the cache, {cache}",
            "  - https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            "  - pip download recbole==1.2.1",
        ]
        assert lines[5].startswith("Put one of ml-100k.zip, recbole-1.2.1-*.whl into a folder")

    @pytest.mark.parametrize("variant", ["1M", "10M", "20M"])
    def test_the_others_come_from_grouplens_alone(self, variant):
        with pytest.raises(DataUnavailableError, match=f"movielens/{ARCHIVE[variant]}: no network") as caught:
            get_movielens_dataset(variant)
        assert "pip" not in str(caught.value)


FORMATS = {
    "tabs": ratings.Format(b"\t"),
    "colons": ratings.Format(b"::"),
    "commas": ratings.Format(b",", header=b"userId,movieId,rating,timestamp"),
}
MALFORMED = [  # S stands for the separator
    b"12", b"1S2S3", b"1S2S3S4S5", b"1SSS4", b"1S2SS4", b"xS2S3S4", b"1S2S3S4x", b"\xb2S2S3S4", b"1;2;3;4", b"1S2S3\0S4",
    b"-1S2S3S4", b"0S2S3S4", b"1S0S3S4", b"1.5S2S3S4", b"nanS2S3S4", b"2147483647S2S3S4", b"1S2147483647S3S4",
    b"1S2SnanS4", b"1S2SinfS4", b"1S2S1e99S4", b"1S2S3S4.5", b"1S2S3S-4", b"1S2S3S2147483648", b"1S2S3S1e400",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
class TestParsing:
    def read(self, form, lines, end=b"\n"):
        head = [form.header] if form.header else []
        content = end.join(head + [line.replace(b"S", form.separator) for line in lines])
        return ratings.read(io.BytesIO(content), form, "the file")

    def test_as_python_reads_numbers(self, form):
        rs = np.random.RandomState(0)
        ids = rs.randint(1, 10 ** rs.randint(1, 10, size=(500, 2)))
        numbers = rs.choice(["0.5", "5", "3.5", "4.0", "0", "12.25", "3.1415926535897"], 500)
        rows = [*zip(ids[:, 0], ids[:, 1], numbers, rs.randint(0, 2**31 - 1, 500), strict=True)]
        rows += [(2**31 - 2, 2**31 - 2, "-1", 2**31 - 1), (1, 1, "0", 0), (1, 1, "0", "7.0")]  # RecBole's are floats
        columns = self.read(form, ["S".join(map(str, row)).encode() for row in rows])
        for got, values, dtype in zip(columns, zip(*rows, strict=True), "iifi", strict=True):
            assert got.dtype == dtype
            assert np.array_equal(got, np.array([float(value) for value in values]).astype(dtype))

    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_line_ends_and_blank_lines(self, form, end):
        for lines in ([b"1S2S3S4", b"5S6S7S8"], [b"1S2S3S4", b"", b" ", b"5S6S7S8", b"", b""]):
            assert np.array_equal(self.read(form, lines, end), [[1, 5], [2, 6], [3, 7], [4, 8]])

    @pytest.mark.parametrize("before", [0, 40])
    def test_malformed_lines(self, form, before):
        for bad in MALFORMED:
            lines = [b"196S242S3.5S881250949"] * before + [b"", bad] + [b"196S242S3.5S881250949"] * 9
            text = bad.replace(b"S", form.separator).decode("utf-8", "replace")
            with pytest.raises(ValueError, match=f"^the file, line {before + 2 + bool(form.header)}: ") as caught:
                self.read(form, lines)
            assert str(caught.value).endswith(f"expected {form}, got {text!r}")

    def test_files_of_something_else(self, form):
        junk = np.random.RandomState(0).bytes(10_000)
        for content in (junk, junk.replace(b"\n", b"x") * 100):
            with pytest.raises(ValueError, match=r"the file, line \d+: expected '"):
                self.read(form, [content])

    def test_no_ratings(self, form):
        for lines in ([b""], [b"", b"", b" "]):
            with pytest.raises(ValueError, match="the file holds no ratings: expected lines of 'user"):
                self.read(form, lines)


@pytest.mark.parametrize("content", [b"", b"1,2,3,4\n", b"userId,movieId,rating,timestamps\n1,2,3,4\n"])
def test_wrong_header(content):
    shown = content.split(b"\n")[0].decode()
    with pytest.raises(ValueError, match=f"must start with the line 'userId,movieId,rating,timestamp', got '{shown}'"):
        ratings.read(io.BytesIO(content), FORMATS["commas"], "the file")


@pytest.mark.slow
def test_the_real_100k_from_its_wheel(monkeypatch, cache):
    monkeypatch.undo()  # real sources again
    monkeypatch.delenv("SPOTFAST_DATA_DIR", raising=False)
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(cache.parent))
    monkeypatch.setattr(movielens, "URL", "http://127.0.0.1:9/")  # nothing there
    data = get_movielens_dataset()
    assert repr(data) == "<Interactions dataset (944 users x 1683 items x 100000 interactions)>"
    first = data.user_ids[0], data.item_ids[0], data.ratings[0], data.timestamps[0]
    assert first == (196, 242, 3.0, 881250949)
    assert data.user_ids[:5].tolist() == [196, 186, 22, 244, 166]
    assert np.bincount(data.ratings.astype(int)).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    titles = get_movielens_titles()
    assert titles.shape == (1683,)
    assert titles[1] == "Toy Story (1995)"
    assert titles[543] == "Misérables, Les (1995)"
    assert hashlib.sha256((cache / WHEEL).read_bytes()).hexdigest() in movielens._RECBOLE.checksum
