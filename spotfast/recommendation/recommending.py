"""What to call: lists of the best items, whole or block by block, and the memory that they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from spotfast import device_memory, validation
from spotfast.device_memory import FOR_LISTS
from spotfast.recommendation.lists import Ids, Lists, Scores
from spotfast.recommendation.queries import queries_of

RECOMMENDATIONS = "the recommendations"


def recommend(
    model: Any,
    user_ids: Any,
    k: int = 10,
    exclude: Any = None,
    item_ids: Any = None,
    *,
    memory_budget: int | str | None = None,
    verbose: bool = False,
) -> tuple[Ids, Scores]:
    """Find the k best items for every user, best first; of equal scores, the lower id first.

    An excluded item never appears, nor does padding. Where fewer than k items are left, the list is shorter: its end
    is filled with the id -1 and the score -inf.

    Args:
        model: a fitted model; or anything with `user_vectors()` and `item_vectors()`, arrays or tensors of shape (U, D)
            and (I, D), whose products are the scores, plus `user_biases()` (U,) and `item_biases()` (I,) if there are
            such methods; or anything whose `predict(user)` gives the scores of all items.
        user_ids: one user, or an array of shape (n,), in any order and with repetitions. For a model of sequences one
            sequence of shape (L,), or several, (n, L), as its `predict` takes them.
        k: the length of the lists, at least 1.
        exclude: None; or `Interactions`, or a scipy sparse matrix of shape (num_users, num_items): a user's items in it
            are left out; or a sequence of n arrays of items (for one user the items alone). For a model of sequences
            None, "seen" (the items of each sequence) or a sequence of arrays.
        item_ids: the only items to choose from, in any order; repetitions count once. Default: all.
        memory_budget: bytes, or a text as "512MB": what may be used beyond the model and the arguments, the result
            included. Memory inside a network of someone's own is not counted. Default: the result and about 100 MB.
        verbose: show a progress bar on standard error.

    Returns:
        (ids, scores), int64 and float32 of shape (n, k), or (k,) for one user. Scores are those of `predict`.

    Raises:
        ValueError: for ids out of range, a k below 1, a budget that is too small, and for scores that are NaN, naming
            the user.
        TypeError: for arguments of other types, and for models without the methods named above.
        MemoryError: if the result is too large, naming `k` and its size; `iter_recommend` makes it block by block.
        DeviceMemoryError: if a CUDA device has too little memory; a smaller `memory_budget` lowers what is taken.

    Example:
        >>> import numpy as np
        >>> class Popularity:
        ...     def predict(self, user):
        ...         return np.array([0.1, 0.7, 0.2], np.float32)
        >>> recommend(Popularity(), [0, 1], k=2, exclude=[[], [1]])
        (array([[1, 2],
               [2, 0]]), array([[0.7, 0.2],
               [0.2, 0.1]], dtype=float32))
    """
    verbose = validation.flag("verbose", verbose)
    with device_memory.explained_for(model, RECOMMENDATIONS, FOR_LISTS):
        lists = Lists(queries_of(model, user_ids), k, exclude, item_ids)
        size = lists.block_size(memory_budget, whole=True)
        ids, scores = lists.empty(len(lists.queries))
        for some in _progress(lists.blocks(size), len(ids), verbose):
            ids[some], scores[some] = lists.best(some)
    return (ids[0], scores[0]) if lists.queries.alone else (ids, scores)


def iter_recommend(
    model: Any,
    user_ids: Any,
    k: int = 10,
    exclude: Any = None,
    item_ids: Any = None,
    *,
    memory_budget: int | str | None = None,
) -> Iterator[tuple[NDArray[Any], Ids, Scores]]:
    """Find what `recommend` finds, block by block, for results that are too large to hold.

    Args:
        model: as in `recommend`, and so are the others:
        user_ids: who is asked for.
        k: the length of the lists.
        exclude: what never appears.
        item_ids: the only items to choose from.
        memory_budget: for one block and its result. Default: about 100 MB.

    Returns:
        An iterator over (user_ids, ids, scores), in order: a block of the users (b,) or sequences (b, L), and what
        `recommend` returns for them, (b, k).

    Raises:
        ValueError, TypeError, MemoryError, DeviceMemoryError: as `recommend`; the last two from the iterator, too.

    Example:
        >>> import numpy as np
        >>> class Popularity:
        ...     def predict(self, user):
        ...         return np.array([0.1, 0.7, 0.2], np.float32)
        >>> [ids.tolist() for users, ids, scores in iter_recommend(Popularity(), [5, 3], k=1)]
        [[[1], [1]]]
    """
    with device_memory.explained_for(model, RECOMMENDATIONS, FOR_LISTS):
        lists = Lists(queries_of(model, user_ids), k, exclude, item_ids)
        size = lists.block_size(memory_budget, whole=False)

    def best(some: slice) -> tuple[Ids, Scores]:
        with device_memory.explained_for(model, RECOMMENDATIONS, FOR_LISTS):
            return lists.best(some)

    return ((lists.queries.asked[some], *best(some)) for some in lists.blocks(size))


def estimate_memory(
    model: Any,
    user_ids: Any,
    k: int = 10,
    exclude: Any = None,
    item_ids: Any = None,
    *,
    memory_budget: int | str | None = None,
) -> int:
    """Return how many bytes `recommend` would use at most, with the same arguments: its result included.

    What the model and the arguments hold already is not counted, nor is memory inside a network of someone's own.

    For a model on a CUDA device, tables and rows of scores there are counted as if they were on the CPU; what the
    ranking kernels take beside them is not: `docs/gpu.md` says how much that is.

    Raises:
        ValueError, TypeError: as `recommend`.
    """
    lists = Lists(queries_of(model, user_ids), k, exclude, item_ids)
    return lists.num_bytes(lists.block_size(memory_budget, whole=True), whole=True)


def _progress(blocks: Iterator[slice], total: int, verbose: bool) -> Iterator[slice]:
    """Yield the blocks, with a bar that moves when one is done."""
    if not verbose:
        yield from blocks
        return
    from tqdm import tqdm

    with tqdm(total=total, desc="Recommending", unit="list", unit_scale=True, leave=False) as bar:
        for some in blocks:
            yield some
            bar.update(some.stop - some.start)
