"""Adam on the rows that a sparse gradient touches (see `spotfast.ops.row_update`), everything else deferred.

Each row has one owner, so that results are the same in each run: in an update, the program of its run of entries; in
a lookup, whose ids may repeat, the one entry that moved the row's `last` on, an integer, by an atomic operation. Ids
out of range are left out and reported in `outside`, which starts as 0: to raise at once, the host would have to wait
for the device at every step.
"""

import torch
from torch import Tensor

from spotfast.kernels import runs as entry_runs
from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import aligned, launch
from spotfast.kernels.owed_steps import next_step
from spotfast.kernels.rows import load_rows, store_rows, tile
from spotfast.kernels.runs import Runs, summands_of
from spotfast.kernels.schedule import Schedule
from spotfast.kernels.specialisation import Specialisation
from spotfast.kernels.update_rules import catch_up_rows, step_rows, store_weight

LANES = 128  # ids per program of `claim_kernel`: one per thread, each of which must see what its own atomic returned
TILE = 256  # numbers per block of rows, 2 per thread
SEED = tl.constexpr(0)  # of the rounding to bfloat16: its draws differ by step, table, row and column
SCALARS = ["count", "entries", "rows", "dim", "number"]

Table = tuple[Tensor, Tensor, Tensor]


@triton.jit
def settle_rows(
    weights, first, second, row, last, schedule, counter, dim, number, RULE: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Bring rows up to date in memory.

    `last`, int32 (ROWS,): -1 for those that are left alone. `number`: of the table, see `store_weight`.
    """
    taken = next_step(counter) - 1
    owing = (last >= 0) & (last < taken)
    if tl.max(owing.to(tl.int32)) > 0:
        weight = load_rows(weights, row, owing, dim, BLOCK_D)
        m = load_rows(first, row, owing, dim, BLOCK_D)
        v = load_rows(second, row, owing, dim, BLOCK_D)
        weight, m, v = catch_up_rows(weight, m, v, last, schedule, counter, RULE)
        step = tl.load(counter + 1) + taken
        tl.debug_barrier()  # every warp has read what is written now
        store_weight(weights, row, weight, owing, dim, SEED, step, number, BLOCK_D)
        store_rows(first, row, m, owing, dim, BLOCK_D)
        store_rows(second, row, v, owing, dim, BLOCK_D)


@triton.jit
def sum_gradients(gradients, scratch, order, begin, count, in_pieces, dim, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Sum what `summands_of` says is left to sum, in order: fp32 (ROWS, BLOCK_D)."""
    total = tl.zeros((ROWS, BLOCK_D), tl.float32)
    most = tl.max(count)
    i = most - most
    while i < most:
        present = i < count
        single = present & (in_pieces == 0)
        entry = tl.load(order + begin + i, mask=single, other=0).to(tl.int64)
        total += load_rows(gradients, entry, single, dim, BLOCK_D)
        total += load_rows(scratch, (begin + i).to(tl.int64), present & in_pieces, dim, BLOCK_D)
        i += 1
    return total


@triton.jit(do_not_specialize=SCALARS)
def claim_kernel(owed_since, outside, last, ids, counter, count: tl.int64, rows: tl.int64, LANES: tl.constexpr):
    """Move the `last` of rows on to this step, each in the name of one entry that brings the row up to date.

    owed_since -> (count,) int32: of that entry, the `last` that it found; -1 for all others. outside -> (1,) int64.
    last -> (rows,) int32. ids -> (count,) int64. counter -> see `take_kernel`. A program owns `LANES` entries.
    """
    entry = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    row = tl.load(ids + entry, mask=entry < count, other=0)
    inside = (entry < count) & (row >= 0) & (row < rows)
    tl.store(outside + entry * 0, row, mask=(entry < count) & (inside == 0))
    taken = next_step(counter) - 1
    since = tl.load(last + row, mask=inside, other=-1)
    owing = (since >= 0) & (since < taken)
    since = tl.atomic_max(last + row, since * 0 + taken, mask=owing, sem="relaxed")
    tl.store(owed_since + entry, tl.where(owing & (since < taken), since, -1), mask=entry < count)


@triton.jit(do_not_specialize=SCALARS)
def catch_up_kernel(
    weights,
    first,
    second,
    owed_since,
    ids,
    schedule,
    counter,
    count: tl.int64,
    dim: tl.int32,
    number: tl.int32,
    RULE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Bring the rows up to date that entries have claimed.

    weights -> (N, dim) fp32 or bf16. first, second -> (N, dim) fp32. owed_since -> (count,) int32, from `claim_kernel`.
    ids -> (count,) int64. schedule, counter -> see `take_kernel`. A program owns the rows that `ROWS` consecutive
    entries claimed.
    """
    entry = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row = tl.load(ids + entry, mask=entry < count, other=0)
    since = tl.load(owed_since + entry, mask=entry < count, other=-1)
    settle_rows(weights, first, second, row, since, schedule, counter, dim, number, RULE, BLOCK_D)


@triton.jit(do_not_specialize=SCALARS)
def flush_kernel(
    weights,
    first,
    second,
    last,
    schedule,
    counter,
    rows: tl.int64,
    dim: tl.int32,
    number: tl.int32,
    RULE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Bring all rows up to date, and count their steps from here.

    weights -> (rows, dim) fp32 or bf16. first, second -> (rows, dim) fp32. last -> (rows,) int32. schedule, counter ->
    see `take_kernel`. A program owns `ROWS` consecutive rows.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    since = tl.load(last + row, mask=row < rows, other=-1)
    settle_rows(weights, first, second, row, since, schedule, counter, dim, number, RULE, BLOCK_D)
    tl.debug_barrier()  # every warp has read what is written now
    tl.store(last + row, 0, mask=since >= 0)


@triton.jit(do_not_specialize=SCALARS)
def update_kernel(
    weights,
    first,
    second,
    last,
    outside,
    gradients,
    scratch,
    order,
    run_of,
    starts,
    keys,
    schedule,
    counter,
    entries: tl.int64,
    rows: tl.int64,
    dim: tl.int32,
    number: tl.int32,
    RULE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Bring the rows with a gradient up to date, and take this step with them.

    weights, gradients -> (rows, dim), (entries, dim), fp32 or bf16. first, second -> (rows, dim) fp32. last -> (rows,)
    int32. outside -> (1,) int64. scratch -> from `sum_pieces`. order, run_of, starts, keys -> see `Runs`; keys are
    rows. schedule, counter -> see `take_kernel`. A program owns the rows of `ROWS` consecutive runs.
    """
    run = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    runs = tl.load(run_of + entries - 1) + 1
    if tl.program_id(0) * ROWS < runs:
        row = tl.load(keys + run, mask=run < runs, other=0)
        inside = (run < runs) & (row >= 0) & (row < rows)
        tl.store(outside + row * 0, row, mask=(run < runs) & (inside == 0))
        begin, count, in_pieces = summands_of(run, runs, starts)
        gradient = sum_gradients(gradients, scratch, order, begin, count, in_pieces, dim, ROWS, BLOCK_D)
        since = tl.load(last + row, mask=inside, other=-1)
        weight = load_rows(weights, row, inside, dim, BLOCK_D)
        m = load_rows(first, row, inside, dim, BLOCK_D)
        v = load_rows(second, row, inside, dim, BLOCK_D)
        weight, m, v = catch_up_rows(weight, m, v, since, schedule, counter, RULE)
        weight, m, v = step_rows(weight, m, v, gradient, dim, schedule, counter, RULE)
        step = next_step(counter)
        tl.debug_barrier()  # every warp has read what is written now
        store_weight(weights, row, weight, inside, dim, SEED, tl.load(counter + 1) + step, number, BLOCK_D)
        store_rows(first, row, m, inside, dim, BLOCK_D)
        store_rows(second, row, v, inside, dim, BLOCK_D)
        tl.store(last + row, step, mask=inside)


def catch_up(table: Table, last: Tensor, outside: Tensor, ids: Tensor, schedule: Schedule, number: int) -> None:
    """Bring the rows `ids`, (E,) int64, of the table of that number up to date."""
    count = len(ids)
    if count:
        ids = aligned(ids)
        owed_since = torch.empty(count, dtype=torch.int32, device=ids.device)
        launch(
            claim_kernel, (triton.cdiv(count, LANES),),
            owed_since, outside, last, ids, schedule.counter, count, len(last),
            LANES=LANES,
        )  # fmt: skip
        block = _block(table)
        launch(
            catch_up_kernel, (triton.cdiv(count, block["ROWS"]),),
            *table, owed_since, ids, schedule.array, schedule.counter, count, table[0].shape[1], number,
            RULE=schedule.rule, **block,
        )  # fmt: skip


def update(
    table: Table, last: Tensor, outside: Tensor, ids: Tensor, gradients: Tensor, schedule: Schedule, number: int
) -> None:
    """Take the step that is planned, with a gradient (E, D) of the rows `ids`, (E,) int64."""
    entries = len(ids)
    if entries:
        gradients = aligned(gradients)
        runs: Runs = entry_runs.of(ids)
        scratch = entry_runs.sum_pieces(gradients, runs)
        block = _block(table)
        launch(
            update_kernel, (triton.cdiv(entries, block["ROWS"]),),
            *table, last, outside, gradients, scratch, *runs, schedule.array, schedule.counter,
            entries, len(last), table[0].shape[1], number,
            RULE=schedule.rule, **block,
        )  # fmt: skip
    schedule.take()


def flush(table: Table, last: Tensor, schedule: Schedule, number: int) -> None:
    """Bring all rows up to date; `schedule` starts again."""
    block = _block(table)
    launch(
        flush_kernel, (triton.cdiv(len(last), block["ROWS"]),),
        *table, last, schedule.array, schedule.counter, len(last), table[0].shape[1], number,
        RULE=schedule.rule, **block,
    )  # fmt: skip
    schedule.restart()


def _block(table: Table) -> dict[str, int]:
    rows, columns = tile(table[0].shape[1], TILE)
    return {"ROWS": rows, "BLOCK_D": columns}


_STEP = {"schedule": "*fp32", "counter": "*i64"}
_RUNS = {"order": "*i32", "run_of": "*i32", "starts": "*i32", "keys": "*i64"}


def _of_tables(weights: str, rule: str, width: int) -> list[Specialisation]:
    table = {"weights": weights, "first": "*fp32", "second": "*fp32", **_STEP}
    update = {"last": "*i32", "outside": "*i64", "gradients": weights, "scratch": "*fp32", **_RUNS}
    constants = {"RULE": rule, "ROWS": TILE // width, "BLOCK_D": width}
    return [
        Specialisation(catch_up_kernel, {**table, "owed_since": "*i32", "ids": "*i64"}, constants),
        Specialisation(flush_kernel, {**table, "last": "*i32"}, constants),
        Specialisation(update_kernel, {**table, **update}, constants),
    ]


SPECIALISATIONS = [
    Specialisation(
        claim_kernel,
        {"owed_since": "*i32", "outside": "*i64", "last": "*i32", "ids": "*i64", "counter": "*i64"},
        {"LANES": LANES},
    ),
    *_of_tables("*fp32", "replayed_adam", 64),
    *_of_tables("*fp32", "adam", 32),
    *_of_tables("*fp32", "adam", 128),
    *_of_tables("*bf16", "adam", 64),
    *_of_tables("*fp32", "adam", 64),
]
OTHERS = _of_tables("*bf16", "replayed_adam", 64)
