"""Reviews of Amazon's products, collected by SNAP and by J. McAuley's group.

J. Leskovec, L. Adamic, B. Huberman: The Dynamics of Viral Marketing. ACM TWEB 1(1), 2007: the reviews of 2006, which
Spotlight has. R. He, J. McAuley: Ups and Downs. WWW 2016: those of 2014. None of it comes with this package.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.datasets import reviews
from spotfast.datasets.files import DataFile, Wanted
from spotfast.datasets.sources import Website, locate
from spotfast.interactions import Interactions

URL = "https://snap.stanford.edu/data/bigdata/amazon/amazon-meta.txt.gz"  # SNAP gives no checksum; gzip has its own

_WANTED = Wanted(
    headers=dict.fromkeys(("amazon-meta.txt", "amazon-meta.txt.gz"), reviews.META_HEADER),
    folders=("amazon",),
    archives=(),
)


def get_amazon_dataset(
    min_user_interactions: int = 10,
    min_item_interactions: int = 10,
    path: str | os.PathLike[str] | None = None,
) -> Interactions:
    r"""Return reviews of Amazon's products, of the users and items with the most.

    Users and items are filtered independently, by how often they occur in the whole file; afterwards they can occur
    less often. Those left are numbered anew from 1, in the order in which the file first names them.

    The reviews are read from the first of these places that has them:

    1. `path`: a file, whatever its name, compressed with gzip or not: SNAP's `amazon-meta.txt`, or ratings in CSV as
       McAuley's group publishes them, such as `ratings_Books.csv` of 2014 (user, item, rating, timestamp), the files
       of 2018 (item first) and of 2023 (with a header). Or a folder or zip archive with `amazon-meta.txt` or
       `amazon-meta.txt.gz`. If it is not there, no other place is tried.
    2. The folder or archive named by the environment variable `SPOTFAST_DATA_DIR`, likewise.
    3. The cache: `amazon` in the folder named by `SPOTFAST_CACHE_DIR`, or in the system's cache folder.
    4. `amazon-meta.txt.gz` on SNAP's server (almost 8 million reviews), kept in the cache.

    Args:
        min_user_interactions: users with fewer reviews are left out, at least 0.
        min_item_interactions: items with fewer reviews are left out, at least 0.
        path: where the data is on this machine.

    Returns:
        Interactions with new arrays: `user_ids` and `item_ids` int32 from 1, `ratings` float32, `timestamps` int64 as
        in the file (of 2023: milliseconds since 1970, else seconds; days begin in UTC); `num_users` and `num_items`
        are the numbers of users and items left, plus 1.

    Raises:
        ValueError: for a file or archive that is damaged, naming the line; if no review is left.
        FileNotFoundError: if `path` is given and the data is not there.
        DataUnavailableError: an `OSError`, if the data can be got from no place; it says why for each.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "ratings_Books.csv")
        ...     _ = file.write_text("A1,B000000001,5.0,20\nA2,B000000001,3.0,10\nA1,B000000002,4.0,30\n")
        ...     get_amazon_dataset(min_user_interactions=2, min_item_interactions=1, path=file)
        <Interactions dataset (2 users x 3 items x 2 interactions)>
    """
    least_of_user = validation.integer("min_user_interactions", min_user_interactions, 0)
    least_of_item = validation.integer("min_item_interactions", min_item_interactions, 0)
    file = _locate(path)
    with file.open() as stream:
        columns = reviews.read(stream, str(file))
    user_numbers, item_numbers = _renumber(columns.user_ids, least_of_user), _renumber(columns.item_ids, least_of_item)
    users, items = user_numbers[columns.user_ids], item_numbers[columns.item_ids]
    kept = (users > 0) & (items > 0)
    if not kept.any():
        raise ValueError(
            f"min_user_interactions={least_of_user} and min_item_interactions={least_of_item} leave none of the "
            f"{len(kept)} reviews in {file}: lower them"
        )
    return Interactions(
        users[kept],
        items[kept],
        ratings=columns.ratings[kept],
        timestamps=columns.timestamps[kept],
        num_users=int(user_numbers.max()) + 1,
        num_items=int(item_numbers.max()) + 1,
    )


def _renumber(ids: NDArray[np.int32], least: int) -> NDArray[np.int32]:
    """Return the new numbers, from 1, of the ids that occur at least so often, and 0 for the others."""
    often = np.bincount(ids) >= least
    return np.where(often, np.cumsum(often), 0).astype(np.int32)


def _locate(path: str | os.PathLike[str] | None) -> DataFile:
    if isinstance(path, str | os.PathLike):
        place = Path(path).expanduser()
        if place.is_file() and place.suffix.lower() != ".zip" and not zipfile.is_zipfile(place):
            return DataFile(place)  # named by the user, so its name does not matter
    return locate("the Amazon reviews", _WANTED, [Website(URL)], "amazon", path)
