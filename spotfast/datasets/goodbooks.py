"""The goodbooks-10k data set: six million ratings, from 1 to 5, of the ten thousand books rated most.

Z. Zajac: Goodbooks-10k: a new dataset for book recommendations. FastML, 2017. Its licence is CC BY-SA 4.0; none of it
comes with this package.
"""

from __future__ import annotations

import os

from spotfast.datasets import ratings
from spotfast.datasets.files import Wanted
from spotfast.datasets.sources import Website, locate
from spotfast.interactions import Interactions

URL = "https://github.com/zygmuntz/goodbooks-10k/releases/download/v1.0/goodbooks-10k.zip"
RAW_URL = "https://raw.githubusercontent.com/zygmuntz/goodbooks-10k/master/ratings.csv"

_FORMAT = ratings.Format(b",", header=b"user_id,book_id,rating", timestamps=False)
_WANTED = Wanted(
    headers={"ratings.csv": _FORMAT.header},
    folders=("goodbooks-10k", "goodbooks-10k-master"),
    archives=("goodbooks-10k.zip", "goodbooks-10k-master.zip"),
)
# Its publisher gives no checksum. These are the sizes that he names.
_MOST_USERS, _MOST_BOOKS = 53_424, 10_000


def get_goodbooks_dataset(path: str | os.PathLike[str] | None = None) -> Interactions:
    r"""Return all ratings of goodbooks-10k, in the order of its file, which is that of time.

    They are read from the first of these places that has them:

    1. `path`: the file `ratings.csv`, or a folder or zip archive with it. It may also lie in a folder
       `goodbooks-10k` or an archive `goodbooks-10k.zip` in the folder. If it is not there, no other place is tried.
    2. The folder or archive named by the environment variable `SPOTFAST_DATA_DIR`, likewise.
    3. The cache: `goodbooks` in the folder named by `SPOTFAST_CACHE_DIR`, or in the system's cache folder.
    4. The archive that its publisher has released on GitHub, or else the file in his repository; kept in the cache.

    Args:
        path: where the data is on this machine.

    Returns:
        Interactions with new arrays: `user_ids` and `item_ids` int32 from 1 as in the file, `ratings` float32,
        `timestamps` int32, the position in the file: 0, 1, 2, ...; `num_users` and `num_items` are the largest id + 1
        (53,425 and 10,001 of the whole data set). A file of yours may have fewer lines.

    Raises:
        ValueError: for a file or archive that is damaged or another data set's, naming the line.
        FileNotFoundError: if `path` is given and the data is not there.
        DataUnavailableError: an `OSError`, if the data can be got from no place; it says why for each.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "ratings.csv").write_text("user_id,book_id,rating\n1,258,5\n2,4081,4\n")
        ...     get_goodbooks_dataset(folder)
        <Interactions dataset (3 users x 4082 items x 2 interactions)>
    """
    file = locate("goodbooks-10k", _WANTED, [Website(URL), Website(RAW_URL)], "goodbooks", path)
    with file.open() as stream:
        columns = ratings.read(stream, _FORMAT, str(file))
    users, books = int(columns.user_ids.max()), int(columns.item_ids.max())
    if users > _MOST_USERS or books > _MOST_BOOKS:
        raise ValueError(
            f"{file} is not goodbooks-10k, which has ids up to {_MOST_USERS} of users and {_MOST_BOOKS} of books: "
            f"it has ids up to {users} and {books}"
        )
    return Interactions(columns.user_ids, columns.item_ids, ratings=columns.ratings, timestamps=columns.timestamps)
