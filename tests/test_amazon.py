"""Amazon's reviews: both formats, the filter by counts, and files that are not as they should be."""

from __future__ import annotations

import gzip
from collections import Counter

import numpy as np
import pytest

from spotfast.datasets import amazon, reviews
from spotfast.datasets.amazon import get_amazon_dataset
from spotfast.datasets.sources import Website
from spotfast.datasets.transport import DataUnavailableError
from spotfast.interactions import Interactions

# user, item, rating, day; users and items first occur in this order
EVENTS = [
    ("A1FIRSTUSER001", "B00000LAMP", 5, "2000-7-28"),
    ("A2SECONDUSER02", "B00000LAMP", 4, "2003-12-14"),
    ("A1FIRSTUSER001", "B0000CHAIR", 1, "2001-12-16"),
    ("A3THIRDUSER003", "B0000CHAIR", 5, "1969-12-31"),
    ("A1FIRSTUSER001", "B0000TABLE", 3, "2004-2-29"),
]
NUMBERS = {name: number for names in zip(*[event[:2] for event in EVENTS], strict=True)
           for number, name in enumerate(dict.fromkeys(names), 1)}  # fmt: skip
SECONDS = [964742400, 1071360000, 1008460800, -86400, 1078012800]


def meta(events=EVENTS):
    """What SNAP's file looks like: made up, but for the form of the lines."""
    text = "# Full information about Amazon Share the Love products\nTotal items: 9\n\n"
    text += "Id:   0\nASIN: B00000GONE\n  discontinued product\n\n"
    for number, asin in enumerate(dict.fromkeys(event[1] for event in events), 3):
        own = [event for event in events if event[1] == asin]
        text += f"Id:   {number}\nASIN: {asin}\n  title: 2000-1-1 A title: rating: 5 — cutomer: me\n  group: Book\n"
        text += "  salesrank: 396585\n  similar: 2  B000000ONE  B000000TWO\n  categories: 1\n"
        text += (
            f"   |Books[283155]|Subjects[1000]\n  reviews: total: {len(own)}  downloaded: {len(own)}  avg rating: 5\n"
        )
        for user, _, rating, day in own:
            text += f"    {day}  cutomer: {user:>14}  rating: {rating}  votes:  10  helpful:   9\n"
        text += "\n"
    return text.replace("\n", "\r\n").encode()


def csv(events=EVENTS, item_first=False, header=b""):
    rows = [(item, user) if item_first else (user, item) for user, item, _, _ in events]
    lines = [f"{a},{b},{event[2]}.0,{at}" for (a, b), event, at in zip(rows, events, range(100, 200), strict=False)]
    return header + "".join(line + "\n" for line in lines).encode()


@pytest.fixture(autouse=True)
def cache(no_sources):
    """The data set's folder. Sources fail unless a test gives others."""
    return no_sources / "amazon"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def check(data, timestamps):
    assert isinstance(data, Interactions)
    assert (data.num_users, data.num_items) == (4, 4)
    assert data.user_ids.tolist() == [NUMBERS[event[0]] for event in EVENTS] == [1, 2, 1, 3, 1]
    assert data.item_ids.tolist() == [NUMBERS[event[1]] for event in EVENTS] == [1, 1, 2, 2, 3]
    assert data.ratings.tolist() == [event[2] for event in EVENTS]
    assert data.timestamps.tolist() == timestamps
    arrays = (data.user_ids, data.item_ids, data.ratings, data.timestamps)
    assert [array.dtype for array in arrays] == [np.int32, np.int32, np.float32, np.int64]
    assert all(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("name", ["amazon-meta.txt", "amazon-meta.txt.gz"])
def test_products_file_in_every_place(name, monkeypatch, tmp_path, cache):
    file = write(tmp_path / "data" / "amazon" / name, meta())
    for path in (file, file.parent, str(file.parent.parent)):
        check(get_amazon_dataset(1, 1, path), SECONDS)
    monkeypatch.setenv("SPOTFAST_DATA_DIR", str(file.parent))
    check(get_amazon_dataset(1, 1), SECONDS)
    monkeypatch.delenv("SPOTFAST_DATA_DIR")

    fetched = []
    monkeypatch.setattr(Website, "fetch", lambda self, folder: fetched.append(self) or write(folder / name, meta()))
    check(get_amazon_dataset(1, 1), SECONDS)
    check(get_amazon_dataset(1, 1), SECONDS)
    assert fetched == [Website(amazon.URL)]
    assert [path.name for path in cache.iterdir()] == [name]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "content",
    [csv(), csv(item_first=True), csv(header=reviews.CSV_HEADER + b"\r\n"), csv().replace(b"\n", b"\r\n\r\n")],
    ids=["2014", "2018", "2023", "blank lines"],
)
def test_csv_files_of_any_name(content, suffix, tmp_path):
    for name in ("ratings_Books.csv", "mine.data"):
        check(get_amazon_dataset(1, 1, write(tmp_path / (name + suffix), content)), [100, 101, 102, 103, 104])


def test_names_need_not_look_like_amazons(tmp_path):
    data = get_amazon_dataset(1, 1, write(tmp_path / "x.csv", b"bob,lamp,1,5\nann,lamp,2,4\nbob,chair,3,3"))
    assert data.user_ids.tolist() == [1, 2, 1]
    assert data.item_ids.tolist() == [1, 1, 2]


@pytest.mark.parametrize("least", [(1, 1), (0, 0), (2, 1), (1, 2), (2, 3), (4, 6), (10, 10)])
def test_users_and_items_are_filtered_independently_by_raw_counts(least, tmp_path):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 60, 300) ** 2 // 60, rng.integers(0, 30, 300) ** 2 // 30
    pairs = [(f"user{user}", f"item{item}") for user, item in zip(users, items, strict=True)]
    users, items = (Counter(names) for names in zip(*pairs, strict=True))
    kept_users = [user for user in users if users[user] >= least[0]]  # in the order of their first occurrence
    kept_items = [item for item in items if items[item] >= least[1]]
    expected = [(user, item) for user, item in pairs if user in kept_users and item in kept_items]
    assert 0 < len(expected)
    data = get_amazon_dataset(*least, write(tmp_path / "x.csv", "".join(f"{a},{b},1,2\n" for a, b in pairs).encode()))
    assert (data.num_users, data.num_items) == (len(kept_users) + 1, len(kept_items) + 1)
    got = zip(data.user_ids.tolist(), data.item_ids.tolist(), strict=True)
    assert [(kept_users[user - 1], kept_items[item - 1]) for user, item in got] == expected


def test_ten_of_each_by_default(tmp_path):
    file = write(tmp_path / "x.csv", b"".join(b"u%d,i%d,1,2\n" % (k % 10, k // 10) for k in range(100)) + b"u,i0,1,2\n")
    data = get_amazon_dataset(path=file)
    assert (len(data), data.num_users, data.num_items) == (100, 11, 11)


def test_nothing_left(tmp_path):
    with pytest.raises(ValueError, match="min_user_interactions=4 and min_item_interactions=1 leave none of the 5"):
        get_amazon_dataset(4, 1, write(tmp_path / "x.csv", csv()))


def test_many_chunks_are_as_one(monkeypatch, tmp_path):
    for content in (meta(), csv(item_first=True)):
        file = write(tmp_path / "x", content)
        whole = get_amazon_dataset(1, 1, file)
        monkeypatch.setattr(reviews, "_CHUNK", 60)
        check(get_amazon_dataset(1, 1, file), whole.timestamps.tolist())
        monkeypatch.undo()


@pytest.mark.parametrize("chunk", [1, 70, 1 << 24])
@pytest.mark.parametrize(
    "bad",
    [b"A1,B1,5", b"A1,B1,5,6,7", b"A1,B1,good,6", b"A1,B1,nan,6", b"A1,B1,inf,6", b"A1,B1,1e39,6", b"A1,B1,5,6.5",
     b"A1,B1,5,-6", b"A1,B1,5,99999999999999999999", b",B1,5,6", b"A1,,5,6", b"A1;B1;5;6", b"\xff", b"A1,B1,5,"],
)  # fmt: skip
def test_malformed_csv(bad, chunk, monkeypatch, tmp_path):
    monkeypatch.setattr(reviews, "_CHUNK", chunk)
    for number, content in ((7, csv() + b"\n" + bad + b"\n" + csv()), (1, bad + b"\n" + csv()), (6, csv() + bad)):
        with pytest.raises(ValueError, match=rf"x\.csv, line {number}: expected 'user,item,rating,") as caught:
            get_amazon_dataset(1, 1, write(tmp_path / "x.csv", content))
        assert str(caught.value).endswith(f"got {bad.decode('utf-8', 'replace')!r}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"cutomer: A2SECONDUSER02", b"cutomer:"), (b"rating: 4", b"rating: good"), (b"2003-12-14", b"2003-13-14"),
        (b"2003-12-14", b"2003-12-x"), (b"cutomer: A2SECONDUSER02", b"who: A2SECONDUSER02"),
        (b"rating: 4  votes:  10  helpful:   9", b"rating: 4"), (b"rating: 4", b"stars: 4"),
    ],
)  # fmt: skip
def test_malformed_products_file(old, new, tmp_path):
    content = meta()
    assert content.count(old) == 1
    number = 1 + content[: content.index(old)].count(b"\n")
    for name in ("amazon-meta.txt", "x.gz"):
        file = write(tmp_path / name, content.replace(old, new))
        with pytest.raises(
            ValueError, match=rf"{name}, line {number}: expected 'year-month-day  cutomer: NAME .* got '"
        ):
            get_amazon_dataset(1, 1, file)


def test_reviews_need_a_product(tmp_path):
    for product in (b"", b"Id:   x\n"):
        content = meta().splitlines(keepends=True)[0] + product + b"    2000-7-28  cutomer: A  rating: 5  votes:  1\n"
        with pytest.raises(ValueError, match=r"below an 'Id: NUMBER', got '    2000-7-28  cutomer"):
            get_amazon_dataset(1, 1, write(tmp_path / "x", content))


@pytest.mark.parametrize("content", [b"", b"\n \n", reviews.CSV_HEADER, meta([])], ids=["0", "blank", "header", "meta"])
def test_no_reviews(content, tmp_path):
    with pytest.raises(ValueError, match="x holds no reviews: expected lines of '"):
        get_amazon_dataset(1, 1, write(tmp_path / "x", content))


def test_damaged_gzip_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 26, 20_000).astype(np.uint8) + 97
    whole = gzip.compress(csv() + b"".join(b"u%s,i,1,2\n" % name.tobytes() for name in noise.reshape(-1, 10)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (whole[:-9], whole[: len(whole) // 2], bytes(flipped), b"<html>"):
        file = tmp_path / "ratings.csv.gz"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"ratings\.csv\.gz is not a whole gzip file \(.*\): delete it"):
            get_amazon_dataset(1, 1, file)


def test_every_place_is_named_where_none_has_it(tmp_path):
    with pytest.raises(DataUnavailableError) as caught:
        get_amazon_dataset()
    for part in ("the Amazon reviews", "SPOTFAST_DATA_DIR: not set", "the cache", f"{amazon.URL}: no network"):
        assert part in str(caught.value)
    assert "Put one of amazon-meta.txt, amazon-meta.txt.gz into a folder" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"path must hold the Amazon reviews as one of amazon-meta\.txt, "):
        get_amazon_dataset(path=tmp_path)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="min_user_interactions must be an integer of at least 0, got -1"):
        get_amazon_dataset(-1)
    with pytest.raises(TypeError, match=r"min_item_interactions must be an integer of at least 0, got 2\.5"):
        get_amazon_dataset(1, 2.5)
    with pytest.raises(TypeError, match=r"path must be a str, an os\.PathLike or None, got 3"):
        get_amazon_dataset(path=3)
