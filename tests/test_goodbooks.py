"""goodbooks-10k: where it is looked for, what is read, and what is said about files that are not as they should be."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from spotfast.datasets import goodbooks, ratings
from spotfast.datasets.goodbooks import get_goodbooks_dataset
from spotfast.datasets.sources import Website
from spotfast.datasets.transport import DataUnavailableError, DownloadError
from spotfast.interactions import Interactions

HEADER = "user_id,book_id,rating\n"
CONTENT = HEADER + "7,3,4\n2,5,1\n7,1,5\n"


@pytest.fixture(autouse=True)
def cache(no_sources):
    """The data set's folder. Sources fail unless a test gives others."""
    return no_sources / "goodbooks"


def write(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def write_zip(path, member):
    with zipfile.ZipFile(write(path), "w") as archive:
        archive.writestr(member, CONTENT)
    return path


def check(data):
    assert isinstance(data, Interactions)
    assert (data.num_users, data.num_items) == (8, 6)
    arrays = (data.user_ids, data.item_ids, data.ratings, data.timestamps)
    assert [array.tolist() for array in arrays] == [[7, 2, 7], [3, 5, 1], [4, 1, 5], [0, 1, 2]]
    assert [array.dtype for array in arrays] == [np.int32, np.int32, np.float32, np.int32]
    assert all(array.flags.writeable and array.base is None for array in arrays)


def test_is_read_from_the_file_its_folder_or_an_archive(tmp_path, monkeypatch):
    direct = write(tmp_path / "direct" / "ratings.csv")
    below = write(tmp_path / "below" / "goodbooks-10k" / "ratings.csv").parent.parent
    archive = write_zip(tmp_path / "zipped" / "goodbooks-10k.zip", "ratings.csv")
    deep = write_zip(tmp_path / "deep" / "goodbooks-10k-master.zip", "goodbooks-10k-master/ratings.csv")
    for path in (direct, direct.parent, str(below), archive, archive.parent, deep, deep.parent):
        check(get_goodbooks_dataset(path))
    monkeypatch.setenv("SPOTFAST_DATA_DIR", str(below))
    check(get_goodbooks_dataset())


def test_every_call_gives_new_arrays(tmp_path):
    path = write(tmp_path / "ratings.csv")
    get_goodbooks_dataset(path).user_ids[:] = 1
    check(get_goodbooks_dataset(path))


@pytest.mark.parametrize("working", [goodbooks.URL, goodbooks.RAW_URL])
def test_is_fetched_once_and_kept(working, monkeypatch, cache):
    fetched = []

    def fetch(self, folder):
        fetched.append(self.url)
        if self.url != working:
            raise DownloadError("it is down")
        name = self.url.rpartition("/")[2]
        return write_zip(folder / name, "ratings.csv") if name.endswith(".zip") else write(folder / name)

    monkeypatch.setattr(Website, "fetch", fetch)
    check(get_goodbooks_dataset())
    check(get_goodbooks_dataset())
    assert fetched == [goodbooks.URL, goodbooks.RAW_URL][: 1 + (working == goodbooks.RAW_URL)]
    assert len(list(cache.iterdir())) == 1


def test_every_place_is_named_where_none_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SPOTFAST_DATA_DIR", str(write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n")))
    with pytest.raises(DataUnavailableError) as caught:
        get_goodbooks_dataset()
    for part in ("ratings.csv is another data set's", "the cache", f"{goodbooks.URL}: no network", goodbooks.RAW_URL):
        assert part in str(caught.value)
    with pytest.raises(
        FileNotFoundError, match=r"path must hold goodbooks-10k as one of ratings\.csv, .*found none in"
    ):
        get_goodbooks_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must start with the line 'user_id,book_id,rating', got ''"),
        ("book_id,user_id,rating\n1,314,5\n", "must start with the line 'user_id,book_id,rating', got 'book_id,"),
        (HEADER + "\n", "holds no ratings: expected lines of 'user,item,rating' after"),
        (CONTENT + "\n1,2\n", r"ratings\.csv, line 6: expected 'user,item,rating' after .*, got '1,2'"),
        (CONTENT + "1,2,3,4\n", "line 5: .*, got '1,2,3,4'"),
        (CONTENT + "1,2,good\n", "line 5: .*, got '1,2,good'"),
        (CONTENT + "1,2,nan\n", "line 5: .* and a finite rating, got '1,2,nan'"),
        (CONTENT + "0,2,3\n1,1,1\n", "line 5: .*with ids from 1 to .*, got '0,2,3'"),
        (CONTENT + "1,-2,3\n", "line 5: .*, got '1,-2,3'"),
        (CONTENT + "1,2.5,3\n", "line 5: .*, got '1,2.5,3'"),
        (CONTENT + "53425,1,3\n", "is not goodbooks-10k, .*53424 of users and 10000 of books: .* 53425 and 5"),
        (CONTENT + "1,10001,3\n", "is not goodbooks-10k, .* 7 and 10001"),
    ],
)
def test_malformed_files(content, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        get_goodbooks_dataset(write(tmp_path / "ratings.csv", content))


def test_ratings_may_be_fractions(tmp_path):
    assert get_goodbooks_dataset(write(tmp_path / "ratings.csv", HEADER + "1,1,2.5\n")).ratings.tolist() == [2.5]


def test_the_format_says_whether_there_are_timestamps():
    assert "timestamp" in str(ratings.Format(b","))
    assert "timestamp" not in str(ratings.Format(b",", timestamps=False))
