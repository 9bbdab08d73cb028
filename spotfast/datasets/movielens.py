"""The MovieLens data sets: ratings of films from 0.5 to 5, collected by GroupLens.

F. M. Harper, J. A. Konstan: The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015. GroupLens
allows their use in research and asks for this citation; the data may not be passed on without permission, so
none of it comes with this package.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.datasets import ratings, titles
from spotfast.datasets.files import Wanted
from spotfast.datasets.sources import Source, Website, Wheel, locate
from spotfast.interactions import Interactions

VARIANTS = ("100K", "1M", "10M", "20M")

URL = "https://files.grouplens.org/datasets/movielens/"


@dataclass(frozen=True)
class _Variant:
    """What GroupLens publishes as one data set.

    Attributes:
        archive: the zip file's name.
        md5: its MD5, as GroupLens publishes it.
        folder: the only folder in it.
        rows: how many ratings there are.
        ratings: names of the file of ratings, with its format.
        titles: names of the file of titles, with its reader.
    """

    archive: str
    md5: str
    folder: str
    rows: int
    ratings: dict[str, ratings.Format]
    titles: dict[str, titles.Reader]


_VARIANTS = {
    "100K": _Variant(
        archive="ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
        folder="ml-100k",
        rows=100_000,
        ratings={
            "u.data": ratings.Format(b"\t"),
            "ml-100k.inter": ratings.Format(
                b"\t", header=b"user_id:token\titem_id:token\trating:float\ttimestamp:float"
            ),
        },
        titles={"u.item": titles.bars, "ml-100k.item": titles.recbole},
    ),
    "1M": _Variant(
        archive="ml-1m.zip",
        md5="c4d9eecfca2ab87c1945afe126590906",
        folder="ml-1m",
        rows=1_000_209,
        ratings={"ratings.dat": ratings.Format(b"::")},
        titles={"movies.dat": titles.colons_latin_1},
    ),
    "10M": _Variant(
        archive="ml-10m.zip",
        md5="ce571fd55effeba0271552578f2648bd",
        folder="ml-10M100K",
        rows=10_000_054,
        ratings={"ratings.dat": ratings.Format(b"::")},
        titles={"movies.dat": titles.colons_utf_8},
    ),
    "20M": _Variant(
        archive="ml-20m.zip",
        md5="cd245b17a1ae2cc31bb14903e1204af3",
        folder="ml-20m",
        rows=20_000_263,
        ratings={"ratings.csv": ratings.Format(b",", header=b"userId,movieId,rating,timestamp")},
        titles={"movies.csv": titles.csv},
    ),
}

# The RecBole library ships the 100K data set as an example. PyPI is often reachable where GroupLens is not.
_RECBOLE = Wheel(
    project="recbole",
    version="1.2.1",
    file_name="recbole-1.2.1-py3-none-any.whl",
    checksum="sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
)
_RECBOLE_FOLDER = "recbole/dataset_example/ml-100k"


def get_movielens_dataset(variant: str = "100K", path: str | os.PathLike[str] | None = None) -> Interactions:
    r"""Return all ratings of a MovieLens data set, in the order of its file.

    They are read from the first of these places that has them:

    1. `path`: a folder or zip archive. The file may also lie in a folder or archive in it that is named as
       GroupLens names it, such as `ml-100k/u.data` or `ml-100k.zip`. If it is not there, no other place is
       tried.
    2. The folder or archive named by the environment variable `SPOTFAST_DATA_DIR`, likewise.
    3. The cache: `movielens` in the folder named by `SPOTFAST_CACHE_DIR`, or in the system's cache folder.
    4. The archive on GroupLens' server, which is checked and kept in the cache.
    5. For 100K, the wheel of `recbole` 1.2.1, which carries it: fetched by pip and kept in the cache, never
       installed.

    Args:
        variant: "100K", "1M", "10M" or "20M", the number of ratings.
        path: where the data is on this machine.

    Returns:
        Interactions with new arrays: `user_ids` and `item_ids` int32 from 1 as in the file, `ratings`
        float32, `timestamps` int32 in seconds since 1970; `num_users` and `num_items` are the largest id + 1
        (100K: 944 and 1683). A file of yours may have fewer lines than the whole data set.

    Raises:
        ValueError: for an unknown variant; for a file or archive that is damaged or another data set's.
        FileNotFoundError: if `path` is given and the data is not there.
        DataUnavailableError: an `OSError`, if the data can be got from no place; it says why for each.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "u.data").write_text("196\t242\t3\t881250949\n")
        ...     get_movielens_dataset("100K", path=folder)
        <Interactions dataset (197 users x 243 items x 1 interactions)>
    """
    columns = _read_ratings(variant, path)
    return Interactions(columns.user_ids, columns.item_ids, ratings=columns.ratings, timestamps=columns.timestamps)


def get_movielens_titles(variant: str = "100K", path: str | os.PathLike[str] | None = None) -> NDArray[np.object_]:
    r"""Return the titles of the items of a MovieLens data set.

    The files are looked for as in `get_movielens_dataset`. The ratings are read too, for the number of items;
    the titles may come from another place.

    Args:
        variant: "100K", "1M", "10M" or "20M".
        path: where the data is on this machine.

    Returns:
        (num_items,) array of str, indexed by item id: `titles[1]` is "Toy Story (1995)". Where there is no
        title, at index 0 for instance, it is "".

    Raises:
        ValueError, FileNotFoundError, DataUnavailableError: as `get_movielens_dataset`.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "u.data").write_text("1\t1\t5\t874965758\n")
        ...     _ = pathlib.Path(folder, "u.item").write_text("1|Toy Story (1995)|01-Jan-1995\n")
        ...     get_movielens_titles("100K", path=folder)
        array(['', 'Toy Story (1995)'], dtype=object)
    """
    num_items = int(_read_ratings(variant, path).item_ids.max()) + 1
    readers = _VARIANTS[variant].titles
    wanted = _wanted(variant, dict.fromkeys(readers, b""))
    file = locate(f"MovieLens {variant}'s titles", wanted, _sources(variant), "movielens", path)
    result = np.full(num_items, "", object)
    with file.open() as stream:
        for item, title in readers[file.name](stream, str(file)):
            if item < num_items:
                result[item] = title
    return result


def _read_ratings(variant: str, path: str | os.PathLike[str] | None) -> ratings.Ratings:
    validation.choice("variant", variant, VARIANTS)
    formats = _VARIANTS[variant].ratings
    wanted = _wanted(variant, {name: form.header for name, form in formats.items()})
    file = locate(f"MovieLens {variant}", wanted, _sources(variant), "movielens", path)
    with file.open() as stream:
        columns = ratings.read(stream, formats[file.name], str(file))
    rows, most = len(columns.user_ids), _VARIANTS[variant].rows
    if rows > most:  # 1M and 10M name their files alike
        raise ValueError(f"{file} is not MovieLens {variant}, which has {most} ratings: it has {rows}")
    return columns


def _wanted(variant: str, headers: dict[str, bytes]) -> Wanted:
    """Return where the files of a variant may be, given their names and first lines."""
    own = _VARIANTS[variant]
    folders, archives = [own.folder], [own.archive]
    if variant == "100K":
        folders.append(_RECBOLE_FOLDER)
        archives.append("recbole-1.2.1-*.whl")
    foreign = frozenset(other.folder for other in _VARIANTS.values()) - {own.folder}
    return Wanted(headers, tuple(folders), tuple(archives), foreign)


def _sources(variant: str) -> list[Source]:
    own = _VARIANTS[variant]
    website = Website(URL + own.archive, f"md5:{own.md5}")
    return [website, _RECBOLE] if variant == "100K" else [website]
