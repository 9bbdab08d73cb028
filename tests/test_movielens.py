"""MovieLens: every format, every place it may be, and what is said about files that are not as they should be."""

from __future__ import annotations

import io
import zipfile
from collections import namedtuple

import numpy as np
import pytest

from spotfast.datasets import movielens, ratings
from spotfast.datasets.movielens import get_movielens_dataset, get_movielens_titles
from spotfast.datasets.sources import Website, Wheel
from spotfast.datasets.transport import DataUnavailableError
from spotfast.interactions import Interactions

# A variant, where its files are published, and their beginnings in form; ids, ratings and times are made up.
Case = namedtuple("Case", "variant archive folder name content titles_name titles")
WHEEL, IN_WHEEL = "recbole-1.2.1-py3-none-any.whl", "recbole/dataset_example/ml-100k"
TABS = "7\t3\t4\t881250949\n2\t5\t1\t891717742\n7\t1\t5\t878887116\n"
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + TABS
CSV = "userId,movieId,rating,timestamp\n7,3,4.0,881250949\n2,5,1.0,891717742\n7,1,5.0,878887116\n"
DAT = TABS.replace("\t", "::")
BARS = "1|Les Misérables (1995)|01-Jan|0\n3|unknown||1\n5|Copycat (1995)|01-Jan|0\n9|Not rated (1999)||1\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tLes Misérables\t1995\tDrama\n3\tunknown\tunknown\tunknown\n5\tCopycat\t1995\tCrime Drama\n"
)
COLONS = "1::Les Misérables (1995)::Drama\n3::unknown::Comedy|Drama\n5::Copycat (1995)::Crime\n"
QUOTED = 'movieId,title,genres\r\n1,Les Misérables (1995),Drama\r\n3,"unknown",Drama\r\n5,"Copycat (1995)",Crime\r\n'
CASES = {
    "100K": Case("100K", "ml-100k.zip", "ml-100k", "u.data", TABS, "u.item", BARS.encode("latin-1")),
    "wheel": Case("100K", WHEEL, IN_WHEEL, "ml-100k.inter", INTER, "ml-100k.item", ITEM.encode()),
    "1M": Case("1M", "ml-1m.zip", "ml-1m", "ratings.dat", DAT, "movies.dat", COLONS.encode("latin-1")),
    "10M": Case("10M", "ml-10m.zip", "ml-10M100K", "ratings.dat", DAT, "movies.dat", COLONS.encode()),
    "20M": Case("20M", "ml-20m.zip", "ml-20m", "ratings.csv", CSV, "movies.csv", QUOTED.encode()),
}


@pytest.fixture(autouse=True)
def cache(no_sources):
    """The data set's folder. Sources fail unless a test gives others."""
    return no_sources / "movielens"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_zip(path, members):
    with zipfile.ZipFile(write(path, b""), "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def check(data):
    assert isinstance(data, Interactions)
    assert (data.num_users, data.num_items) == (8, 6)
    arrays = (data.user_ids, data.item_ids, data.ratings, data.timestamps)
    assert [array.tolist() for array in arrays] == [[7, 2, 7], [3, 5, 1], [4, 1, 5], [881250949, 891717742, 878887116]]
    assert [array.dtype for array in arrays] == [np.int32, np.int32, np.float32, np.int32]
    assert all(array.flags.writeable and array.base is None for array in arrays)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestEveryFormat:
    def test_in_folders(self, case, tmp_path):
        own = write(tmp_path / "own" / case.folder / case.name, case.content)
        direct = write(tmp_path / "direct" / case.name, case.content)
        for path in (own, own.parent, str(tmp_path / "own"), direct, direct.parent):
            check(get_movielens_dataset(case.variant, path))

    def test_in_archives(self, case, tmp_path):
        for parent in ("", f"{case.folder}/", f"./{case.folder}/", f"far/down/{case.folder}/"):
            members = {"readme": "", f"__MACOSX/._{case.name}": "", parent + case.name: case.content}
            archive = write_zip(tmp_path / case.archive, members)
            for path in (archive, tmp_path, write(tmp_path / "renamed", archive.read_bytes())):
                check(get_movielens_dataset(case.variant, path))

    def test_fetched_once_and_kept_behind_the_users_folder(self, case, monkeypatch, tmp_path, cache):
        fetched = []

        def fetch(self, folder):
            fetched.append(self)
            return write_zip(folder / case.archive, {case.name: case.content, case.titles_name: case.titles})

        monkeypatch.setattr(Wheel if case.archive == WHEEL else Website, "fetch", fetch)
        monkeypatch.setenv("SPOTFAST_DATA_DIR", str(tmp_path / "data"))
        for _ in range(2):
            check(get_movielens_dataset(case.variant))
        titles = get_movielens_titles(case.variant)
        assert titles.tolist() == ["", "Les Misérables (1995)", "", "unknown", "", "Copycat (1995)"]
        assert len(fetched) == len(list(cache.iterdir())) == 1
        write(tmp_path / "data" / case.name, case.content + case.content.splitlines()[-1])
        assert len(get_movielens_dataset(case.variant)) == 4

    @pytest.mark.parametrize("content", [b"what is this\n", b"\xff\xfe\xff"])
    def test_titles_malformed(self, case, content, tmp_path):
        write(tmp_path / case.name, case.content)
        header = case.titles.splitlines(keepends=True)[0] if case.name in ("ml-100k.inter", "ratings.csv") else b""
        for whole in [header + content, content]:
            write(tmp_path / case.titles_name, whole)
            with pytest.raises(ValueError, match=case.titles_name):
                get_movielens_titles(case.variant, tmp_path)


def test_bad_arguments(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="variant must be one of '100K', '1M', '10M', '20M', got '100k'"):
        get_movielens_dataset("100k")
    monkeypatch.setenv("SPOTFAST_DATA_DIR", str(write(tmp_path / "mine" / "u.data", TABS)))
    notes = write(tmp_path / "notes.txt", "hello")
    for path in (tmp_path, tmp_path / "nowhere", notes):
        with pytest.raises(FileNotFoundError, match=r"path must hold .*u\.data.*ml-100k\.zip.*; found none in '.*'"):
            get_movielens_dataset("100K", path)
    with pytest.raises(FileNotFoundError, match=r"MovieLens 100K's titles as one of u\.item, "):
        get_movielens_titles("100K", tmp_path / "mine" / "u.data")
    with pytest.raises(TypeError, match=r"path must be a str, an os\.PathLike or None, got 3"):
        get_movielens_dataset("100K", 3)


def test_another_data_set(monkeypatch, tmp_path):
    file = write(tmp_path / "ml-10M100K" / "ratings.dat", DAT)
    for path in (file.parent, write_zip(tmp_path / "x.zip", {"ml-10M100K/ratings.dat": DAT}), tmp_path):
        with pytest.raises(FileNotFoundError, match="MovieLens 1M"):
            get_movielens_dataset("1M", path)
    write(tmp_path / "u.data", "1\t1\t1\t1\n" * 100_001)
    with pytest.raises(ValueError, match="not MovieLens 100K, which has 100000 ratings: it has 100001"):
        get_movielens_dataset("100K", tmp_path)
    write(tmp_path / "ratings.csv", "user_id,book_id,rating\n1,258,5\n")
    with pytest.raises(ValueError, match=r"ratings\.csv must start with the line 'userId,movieId"):
        get_movielens_dataset("20M", tmp_path)
    monkeypatch.setenv("SPOTFAST_DATA_DIR", str(tmp_path))
    with pytest.raises(DataUnavailableError, match=r"ratings\.csv is another data set's(.|\n)*ml-20m\.zip: no network"):
        get_movielens_dataset("20M")


def test_damaged_archive(tmp_path):
    whole = write_zip(tmp_path / "ml-100k.zip", {"ml-100k/u.data": TABS * 1000}).read_bytes()
    for content in (whole[:-50], whole.replace(b"881250949", b"x81250949", 1), b"<html>"):
        archive = write(tmp_path / "ml-100k.zip", content)
        for path in (archive, tmp_path):
            with pytest.raises(ValueError, match=r"ml-100k\.zip is not a whole zip archive \(.*\): delete it"):
                get_movielens_dataset("100K", path)


FORMATS = {
    "tabs": ratings.Format(b"\t"),
    "colons": ratings.Format(b"::"),
    "commas": ratings.Format(b",", header=b"userId,movieId,rating,timestamp"),
}
MALFORMED = [  # S stands for the separator
    b"12", b"1S2S3", b"1S2S3S4S5", b"1SSS4", b"xS2S3S4", b"1S2S3S4x", b"\xb2S2S3S4", b"1;2;3;4", b"1S2S3\0S4",
    b"-1S2S3S4", b"0S2S3S4", b"1S0S3S4", b"1.5S2S3S4", b"nanS2S3S4", b"2147483647S2S3S4", b"1S2147483647S3S4",
    b"1S2SnanS4", b"1S2SinfS4", b"1S2S1e99S4", b"1S2S3S4.5", b"1S2S3S-4", b"1S2S3S2147483648", b"1S2S3S1e400",
    b"x" * 10_000, np.random.RandomState(0).bytes(10_000).replace(b"\n", b""),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
class TestParsing:
    def read(self, form, lines, end=b"\n"):
        head = [form.header] if form.header else []
        content = end.join(head + [line.replace(b"S", form.separator) for line in lines])
        return ratings.read(io.BytesIO(content), form, "the file")

    def test_reads_numbers_as_python_does(self, form):
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
    def test_names_a_malformed_line(self, form, before):
        for bad in MALFORMED:
            lines = [b"196S242S3.5S881250949"] * before + [b"", bad] + [b"196S242S3.5S881250949"] * 9
            shown = bad.replace(b"S", form.separator)[:80].decode("utf-8", "replace")
            with pytest.raises(ValueError, match=f"^the file, line {before + 2 + bool(form.header)}: ") as caught:
                self.read(form, lines)
            assert str(caught.value).endswith(f"expected {form}, got {shown!r}")


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("tabs", b"", "the file holds no ratings: expected lines of 'user"),
        ("colons", b"\n\r\n \n", "the file holds no ratings: expected lines of 'user"),
        ("commas", FORMATS["commas"].header + b"\n\n", "the file holds no ratings: expected lines of 'user"),
        ("commas", b"", "must start with the line 'userId,movieId,rating,timestamp', got ''"),
        ("commas", b"1,2,3,4\n", "must start with the line 'userId,movieId,rating,timestamp', got '1,2,3,4'"),
        ("commas", FORMATS["commas"].header + b"s\n1,2,3,4\n", "timestamp', got 'userId,movieId,rating,timestamps'"),
    ],
)
def test_files_without_ratings_or_header(form, content, message):
    with pytest.raises(ValueError, match=message):
        ratings.read(io.BytesIO(content), FORMATS[form], "the file")


@pytest.mark.slow
def test_the_real_100k_from_its_wheel(monkeypatch, cache):
    monkeypatch.undo()  # real sources again
    monkeypatch.delenv("SPOTFAST_DATA_DIR", raising=False)
    monkeypatch.setenv("SPOTFAST_CACHE_DIR", str(cache.parent))
    monkeypatch.setattr(movielens, "URL", "http://127.0.0.1:9/")  # nothing there
    data = get_movielens_dataset()
    assert repr(data) == "<Interactions dataset (944 users x 1683 items x 100000 interactions)>"
    assert (data.user_ids[0], data.item_ids[0], data.ratings[0], data.timestamps[0]) == (196, 242, 3.0, 881250949)
    assert np.bincount(data.ratings.astype(int)).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    titles = get_movielens_titles()
    assert titles[[1, 543]].tolist() == ["Toy Story (1995)", "Misérables, Les (1995)"]
