"""What an epoch trains on, a chunk of whole batches at a time: samples in the epoch's order, and which rows they touch.

A sample has a user and C candidates: its positive, or rated item, and then its negatives. In each batch, the entries of
a table, one per sample in that of users and C in that of items, are sorted by row: the runs of equal rows are those of
`runs.py`, counted from the start of the batch.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import launch
from spotfast.kernels.permutation import permutation
from spotfast.kernels.specialisation import Specialisation

if TYPE_CHECKING:
    from spotfast.ops.factorization_epoch import TrainingInteractions
    from spotfast.ops.tables import EpochRange

Draw = Callable[[int, int, Tensor], Tensor]  # (start, stop, users (N,) int64) -> negatives (N, slots) int64

LANES = 512  # entries per program, 4 per thread
SCALARS = ["entries", "batch_entries", "rows", "lowest"]


@triton.jit(do_not_specialize=SCALARS)
def keys_kernel(
    keys,
    ids,
    entries: tl.int64,
    batch_entries: tl.int64,
    rows: tl.int64,
    lowest: tl.int64,
    LANES: tl.constexpr,
):
    """Keys that sort entries by batch, then by row: `lowest + batch * rows + row`.

    keys -> (entries,) int32 or int64. ids -> (entries,) int32. A program owns `LANES` entries.
    """
    entry = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    row = tl.load(ids + entry, mask=entry < entries, other=0)
    tl.store(keys + entry, lowest + entry // batch_entries * rows + row, mask=entry < entries)


@triton.jit(do_not_specialize=SCALARS)
def batch_runs_kernel(
    order,
    run_of,
    starts,
    table_rows,
    sorted_keys,
    sorted_order,
    numbers,
    entries: tl.int64,
    batch_entries: tl.int64,
    rows: tl.int64,
    lowest: tl.int64,
    LANES: tl.constexpr,
):
    """Write `BatchRuns`.

    order, run_of, starts, table_rows -> see there. sorted_keys -> (entries,) int32 or int64, from `keys_kernel`.
    sorted_order -> (entries,) int64. numbers -> (entries,) int32, the run of each sorted entry in the chunk. A program
    owns `LANES` sorted entries, and the runs that begin there.
    """
    entry = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    inside = entry < entries
    batch = entry // batch_entries
    begin = batch * batch_entries
    local = entry - begin
    number = tl.load(numbers + entry, mask=inside, other=0)
    run = number - tl.load(numbers + begin, mask=inside, other=0)
    tl.store(order + entry, (tl.load(sorted_order + entry, mask=inside, other=0) - begin).to(tl.int32), mask=inside)
    tl.store(run_of + entry, run, mask=inside)
    begins = inside & (number != tl.load(numbers + entry - 1, mask=inside & (local > 0), other=-1))
    tl.store(starts + begin + batch + run, local.to(tl.int32), mask=begins)
    row = tl.load(sorted_keys + entry, mask=begins, other=0).to(tl.int64) - lowest - batch * rows
    tl.store(table_rows + begin + run, row.to(tl.int32), mask=begins)
    ends = inside & ((local == batch_entries - 1) | (entry == entries - 1))
    tl.store(starts + begin + batch + run + 1, local.to(tl.int32) + 1, mask=ends)


class BatchRuns(NamedTuple):
    """Runs of equal rows in each of the batches of a chunk, all counted from the start of the batch.

    With b entries per batch, those of batch k begin at k b, in `starts` at k (b + 1).

    Attributes:
        order: int32 (entries,), the entries sorted by row.
        run_of: int32 (entries,), the run of each sorted entry; that of the last one tells how many there are.
        starts: int32 (entries + batches,), where each run begins among the sorted entries, then how many there are;
            beyond that, uninitialised.
        rows: int32 (entries,), the row of each run; beyond, uninitialised.
    """

    order: Tensor
    run_of: Tensor
    starts: Tensor
    rows: Tensor

    @classmethod
    def empty(cls, entries: int, batches: int, device: torch.device) -> "BatchRuns":
        """Return room for as many."""
        sizes = entries, entries, entries + batches, entries
        return cls(*(torch.empty(size, dtype=torch.int32, device=device) for size in sizes))

    @staticmethod
    def sorting_bytes(entries: int, batch_entries: int, rows: int) -> int:
        """Return what `find` allocates for a while, arguments as there."""
        keys = _key_type(entries, batch_entries, rows)[0].itemsize
        sort = 3 * keys + 2 * 8  # keys before and after it, and their order; of these two, torch's sort has a copy
        return entries * (sort + 4 + 1)  # numbers of runs, and which entries begin one

    def find(self, ids: Tensor, batch_entries: int, rows: int) -> None:
        """Sort the entries of some batches.

        Args:
            ids: int32 (E,), the row of each entry, E at most what there is room for.
            batch_entries: entries per batch; the last batch may have fewer.
            rows: of the table; ids are below.
        """
        entries = len(ids)
        dtype, lowest = _key_type(entries, batch_entries, rows)
        keys = torch.empty(entries, dtype=dtype, device=ids.device)
        grid, scalars = (triton.cdiv(entries, LANES),), (entries, batch_entries, rows, lowest)
        launch(keys_kernel, grid, keys, ids, *scalars, LANES=LANES)
        sorted_keys, sorted_order = torch.sort(keys, stable=True)
        numbers = torch.zeros(entries, dtype=torch.int32, device=ids.device)
        torch.cumsum(sorted_keys[1:] != sorted_keys[:-1], 0, dtype=torch.int32, out=numbers[1:])
        launch(batch_runs_kernel, grid, *self, sorted_keys, sorted_order, numbers, *scalars, LANES=LANES)


def _key_type(entries: int, batch_entries: int, rows: int) -> tuple[torch.dtype, int]:
    """Return the type of keys, and the lowest: keys of 32 bits, of either sign, sort twice as fast."""
    largest = triton.cdiv(entries, batch_entries) * rows
    return (torch.int32, -(2**31)) if largest <= 2**32 else (torch.int64, 0)


class Chunk(NamedTuple):
    """Room for the samples of some batches, and for what is known of their rows.

    Attributes:
        place: int64 (2,), the number of the step of the first batch (see `Schedule.counter`), and how many samples
            there are: kernels find their batch by it.
        users: int32 (P,).
        items: int32 (P, C), the candidates.
        ratings: fp32 (P,), or None.
        weights: fp32 (P,), ones unless interactions have some.
        of_users, of_items: the runs of their entries.
    """

    place: Tensor
    users: Tensor
    items: Tensor
    ratings: Tensor | None
    weights: Tensor
    of_users: BatchRuns
    of_items: BatchRuns

    @classmethod
    def empty(cls, batches: int, batch_size: int, candidates: int, rated: bool, device: torch.device) -> "Chunk":
        """Return room for as many batches."""
        count = batches * batch_size
        return cls(
            place=torch.empty(2, dtype=torch.int64, device=device),
            users=torch.empty(count, dtype=torch.int32, device=device),
            items=torch.empty((count, candidates), dtype=torch.int32, device=device),
            ratings=torch.empty(count, device=device) if rated else None,
            weights=torch.ones(count, device=device),
            of_users=BatchRuns.empty(count, batches, device),
            of_items=BatchRuns.empty(count * candidates, batches, device),
        )

    def filling_bytes(self, batch_size: int, sizes: tuple[int, int]) -> int:
        """Return what `fill` allocates for a while: its order and pairs of ids, and the larger of two sorts."""
        count, candidates = self.items.shape
        sorts = (
            BatchRuns.sorting_bytes(count, batch_size, sizes[0]),
            BatchRuns.sorting_bytes(count * candidates, batch_size * candidates, sizes[1]),
        )
        return count * (8 + 2 * 4) + max(sorts)

    def fill(
        self,
        interactions: "TrainingInteractions",
        draw: Draw | None,
        at: "EpochRange",
        start: int,
        batch_size: int,
        sizes: tuple[int, int],
    ) -> int:
        """Prepare the samples at the positions from `start` on, as many as there is room for.

        Args:
            interactions: what the epoch goes through.
            draw: draws negatives.
            at: which epoch.
            start: a multiple of the batch size.
            batch_size: samples per batch; at most as many as there are interactions.
            sizes: of the tables of users and of items.

        Returns:
            How many samples there are.
        """
        total, pairs = len(interactions.pairs), interactions.pairs
        stop = min(start + len(self.users), total)
        count = stop - start
        order = permutation(at.seed, at.epoch, total, start, stop, pairs.device)
        users, positives = pairs[order].unbind(1)
        self.users[:count] = users
        self.items[:count, 0] = positives
        if draw is not None:
            self.items[:count, 1:] = draw(start, stop, users.long())
        for own, values in ((self.ratings, interactions.ratings), (self.weights, interactions.weights)):
            if own is not None and values is not None:
                own[:count] = values[order]
        self.of_users.find(self.users[:count], batch_size, sizes[0])
        candidates = self.items.shape[1]
        self.of_items.find(self.items[:count].view(-1), batch_size * candidates, sizes[1])
        self.place[1] = count
        return count


def tensors_of(parts: tuple) -> list[Tensor]:
    """Return the tensors in tuples of tuples."""
    found = []
    for part in parts:
        if isinstance(part, tuple):
            found += tensors_of(part)
        elif part is not None:
            found.append(part)
    return found


_RUNS = {"order": "*i32", "run_of": "*i32", "starts": "*i32", "table_rows": "*i32"}

SPECIALISATIONS = [
    Specialisation(kernel, pointers | {key: keys}, {"LANES": LANES})
    for keys in ("*i32", "*i64")
    for kernel, key, pointers in (
        (keys_kernel, "keys", {"ids": "*i32"}),
        (batch_runs_kernel, "sorted_keys", _RUNS | {"sorted_order": "*i64", "numbers": "*i32"}),
    )
]
