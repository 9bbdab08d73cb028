"""Updates of the rows that a batch touches: the kernels of a step of training that follow that of the scores.

One program owns each row and sums its gradient in a fixed order (see `runs.py`). An entry of a user adds what the
sample's gradient is; one of an item adds the vector of the sample's user from before the step, times the derivative in
the score.
"""

from spotfast.kernels.epoch_rows import SPILLED, absent, batch_at, read_rows, store_states
from spotfast.kernels.language import tl, triton
from spotfast.kernels.owed_steps import next_step
from spotfast.kernels.rows import load_rows, store_rows, tile
from spotfast.kernels.runs import PIECE, piece_at, summands_of
from spotfast.kernels.specialisation import Specialisation
from spotfast.kernels.update_rules import step_rows, store_weight

UPDATED = 128  # numbers of rows that a warp updates at once, 4 per thread: few rows, as they wait for each other
SETTLED = 512  # likewise, of a program of 4 warps, of rows that take steps without a gradient
TOGETHER = tl.constexpr(2)  # entries of a row that are loaded side by side
SUMMED = tl.constexpr(8)  # entries of a piece that are loaded side by side
SCALARS = ["seed", "table", "batch_size", "candidates", "dim", "rows"]


@triton.jit
def read_entries(sources, factors, places, reading, candidates, dim, SCALED: tl.constexpr, BLOCK_D: tl.constexpr):
    """What entries add to the gradients of their row: of its vector (ROWS, BLOCK_D), of its bias (ROWS,).

    places -> int32, entries of the batch. An item's is the vector of the sample's user, SCALED by the derivative in the
    score; a user's own is in `sources`.
    """
    entry = tl.load(places, mask=reading, other=0)
    factor = tl.load(factors + entry, mask=reading, other=0.0)
    if SCALED:
        vector = factor[:, None] * load_rows(sources, (entry // candidates).to(tl.int64), factor != 0, dim, BLOCK_D)
    else:
        vector = load_rows(sources, entry.to(tl.int64), reading, dim, BLOCK_D)
    return vector, factor


@triton.jit
def sum_entries(
    sources, factors, scratch, bias_scratch, order, begin, count, in_pieces, candidates, dim,
    SCALED: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Gradients of rows: the sums of what `summands_of` says is left to sum, in order: (ROWS, BLOCK_D) and (ROWS,)."""
    total = tl.zeros((ROWS, BLOCK_D), tl.float32)
    bias_total = tl.zeros((ROWS,), tl.float32)
    most = tl.max(count)
    i = most - most
    while i < most:
        for j in tl.static_range(TOGETHER):
            present = i + j < count
            vector, factor = read_entries(
                sources, factors, order + begin + i + j, present & (in_pieces == 0), candidates, dim, SCALED, BLOCK_D
            )
            piece = (begin + i + j).to(tl.int64)
            total += vector + load_rows(scratch, piece, present & in_pieces, dim, BLOCK_D)
            bias_total += factor + tl.load(bias_scratch + piece, mask=present & in_pieces, other=0.0)
        i += TOGETHER
    return total, bias_total


@triton.jit(do_not_specialize=SCALARS)
def sum_row_pieces_kernel(
    scratch,
    bias_scratch,
    sources,
    factors,
    order,
    run_of,
    starts,
    place,
    counter,
    batch_size: tl.int64,
    candidates: tl.int32,
    dim: tl.int32,
    SCALED: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Sum what the entries of each piece of a row add to its gradients. A program owns one place of the scratch.

    scratch -> (places, dim) fp32, bias_scratch -> (places,) fp32, left alone where no piece is. sources, factors ->
    see `read_entries`. order, run_of, starts -> `BatchRuns`, with `candidates` entries per sample.
    """
    batch, count = batch_at(counter, place, batch_size)
    begin = batch * batch_size * candidates
    entries = (count * candidates).to(tl.int32)
    program = tl.program_id(0).to(tl.int64)
    first, end = piece_at(program, run_of + begin, starts + begin + batch, entries)
    if first < end:
        total = tl.zeros((SUMMED, BLOCK_D), tl.float32)
        bias_total = tl.zeros((SUMMED,), tl.float32)
        for i in range(0, PIECE, SUMMED):
            entry = first + i + tl.arange(0, SUMMED)
            vector, factor = read_entries(
                sources, factors, order + begin + entry, entry < end, candidates, dim, SCALED, BLOCK_D
            )
            total += vector
            bias_total += factor
        column = tl.arange(0, BLOCK_D)
        tl.store(scratch + program * dim + column, tl.sum(total, axis=0), mask=column < dim)
        tl.store(bias_scratch + program, tl.sum(bias_total, axis=0))


@triton.jit(do_not_specialize=SCALARS)
def update_rows_kernel(
    vectors,
    biases,
    first,
    second,
    bias_first,
    bias_second,
    last,
    sources,
    factors,
    scratch,
    bias_scratch,
    order,
    run_of,
    starts,
    table_rows,
    place,
    schedule,
    counter,
    seed: tl.uint64,
    table: tl.int32,
    batch_size: tl.int64,
    candidates: tl.int32,
    dim: tl.int32,
    RULE: tl.constexpr,
    SCALED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Take this step with the rows of a table that the batch touches. A program owns the rows of `ROWS` runs.

    The table -> `EpochTable`. scratch, bias_scratch -> from `sum_row_pieces_kernel`, and so the others. table_rows ->
    `BatchRuns.rows`. `seed`, `table`: of the rounding to bfloat16, see `store_weight`.
    """
    batch, count = batch_at(counter, place, batch_size)
    begin = batch * batch_size * candidates
    runs = tl.load(run_of + begin + count * candidates - 1) + 1
    run = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    if tl.program_id(0) * ROWS < runs:
        summands, number, in_pieces = summands_of(run, runs, starts + begin + batch)
        gradient, bias_gradient = sum_entries(
            sources, factors, scratch, bias_scratch, order + begin, summands, number, in_pieces, candidates, dim,
            SCALED, ROWS, BLOCK_D,
        )  # fmt: skip
        moving = run < runs
        if RULE != "sparse_adam":  # all others take steps without a gradient later, if at all
            has_gradient = tl.max((gradient != 0).to(tl.int32), axis=1) > 0
            moving = moving & (has_gradient | (bias_gradient != 0))
        row = tl.load(table_rows + begin + run, mask=moving, other=0).to(tl.int64)
        weight, m, v = read_rows(vectors, first, second, last, row, moving, dim, schedule, counter, RULE, BLOCK_D)
        weight, m, v = step_rows(weight, m, v, gradient, dim, schedule, counter, RULE)
        bias, bias_m, bias_v = read_rows(
            biases, bias_first, bias_second, last, row, moving, 1, schedule, counter, RULE, 1
        )
        one = tl.full((), 1, tl.int32)
        bias, bias_m, bias_v = step_rows(bias, bias_m, bias_v, bias_gradient[:, None], one, schedule, counter, RULE)
        step = next_step(counter)
        tl.debug_barrier()  # every warp has read what is written now
        store_weight(vectors, row, weight, moving, dim, seed, tl.load(counter + 1) + step, table, BLOCK_D)
        store_states(first, second, row, m, v, moving, dim, RULE, BLOCK_D)
        store_rows(biases, row, bias, moving, 1, 1)
        store_states(bias_first, bias_second, row, bias_m, bias_v, moving, 1, RULE, 1)
        if last is not None:
            tl.store(last + row, step, mask=moving)


@triton.jit(do_not_specialize=SCALARS)
def settle_table_kernel(
    vectors,
    biases,
    first,
    second,
    bias_first,
    bias_second,
    last,
    schedule,
    counter,
    seed: tl.uint64,
    table: tl.int32,
    rows: tl.int64,
    dim: tl.int32,
    RULE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Bring all rows of a table up to date, and count their steps from here. A program owns `ROWS` consecutive rows.

    The table -> `EpochTable`. `seed`, `table`: of the rounding to bfloat16, see `store_weight`.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    taken = next_step(counter) - 1
    owing = tl.load(last + row, mask=row < rows, other=taken) < taken
    if tl.max(owing.to(tl.int32)) > 0:
        weight, m, v = read_rows(vectors, first, second, last, row, owing, dim, schedule, counter, RULE, BLOCK_D)
        bias, bias_m, bias_v = read_rows(
            biases, bias_first, bias_second, last, row, owing, 1, schedule, counter, RULE, 1
        )
        tl.debug_barrier()  # every warp has read what is written now
        store_weight(vectors, row, weight, owing, dim, seed, tl.load(counter + 1) + taken, table, BLOCK_D)
        store_states(first, second, row, m, v, owing, dim, RULE, BLOCK_D)
        store_rows(biases, row, bias, owing, 1, 1)
        store_states(bias_first, bias_second, row, bias_m, bias_v, owing, 1, RULE, 1)
    tl.debug_barrier()
    tl.store(last + row, 0, mask=row < rows)


def update_warps(block: int) -> int:
    """Return how many warps a program of `update_rows_kernel` has, by the columns of its block."""
    return max(1, block // UPDATED)


def sum_warps(block: int) -> int:
    """Return how many warps a program of `sum_row_pieces_kernel` has: 16 numbers per thread, at most."""
    return max(2, block // 64)


SPILLING = (("adam", 32), ("adamw", 64))  # RULE and BLOCK_D
_STATES = ("first", "second", "bias_first", "bias_second")
_TABLE = dict.fromkeys(("biases", *_STATES, "schedule"), "*fp32") | {"last": "*i32", "counter": "*i64"}
_ENTRIES = dict.fromkeys(("scratch", "bias_scratch", "sources", "factors"), "*fp32") | dict.fromkeys(
    ("order", "run_of", "starts"), "*i32"
)
_PLACE = {"place": "*i64", "counter": "*i64"}


def specialisation(rule: str, scaled: bool, dim: int, vectors: str = "*fp32") -> Specialisation:
    """Return the form of `update_rows_kernel` for D up to `dim`."""
    rows, block = tile(dim, UPDATED)
    lacking = absent(rule)
    pointers = {"vectors": vectors, **_TABLE, **_ENTRIES, **_PLACE, "table_rows": "*i32"}
    pointers = {name: kind for name, kind in pointers.items() if name not in lacking}
    constants = {"RULE": rule, "SCALED": scaled, "ROWS": rows, "BLOCK_D": block} | dict.fromkeys(lacking)
    spilled = {"local_bytes": 8, "reason": SPILLED} if (rule, block) in SPILLING else {}
    return Specialisation(update_rows_kernel, pointers, constants, num_warps=update_warps(block), **spilled)


def settling(rule: str, dim: int, vectors: str = "*fp32") -> Specialisation:
    """Return the form of `settle_table_kernel` for D up to `dim`."""
    rows, block = tile(dim, SETTLED)
    lacking = absent(rule)
    pointers = {name: kind for name, kind in {"vectors": vectors, **_TABLE}.items() if name not in lacking}
    constants = {"RULE": rule, "ROWS": rows, "BLOCK_D": block} | dict.fromkeys(lacking)
    return Specialisation(settle_table_kernel, pointers, constants)


SPECIALISATIONS = [
    *(
        Specialisation(
            sum_row_pieces_kernel, _ENTRIES | _PLACE, {"SCALED": scaled, "BLOCK_D": dim}, num_warps=sum_warps(dim)
        )
        for scaled in (False, True)
        for dim in (32, 64, 128)
    ),
    *(
        specialisation(rule, scaled, dim)
        for rule in ("adam", "sgd")
        for scaled in (False, True)
        for dim in (32, 64, 128)
    ),
    *(specialisation("adam", scaled, 64, "*bf16") for scaled in (False, True)),
    *(settling("adam", dim) for dim in (32, 64, 128)),
    settling("adam", 64, "*bf16"),
]
OTHERS = [
    *(
        specialisation(rule, scaled, 64)
        for rule in ("adamw", "replayed_adam", "sparse_adam", "momentum", "adagrad", "rowwise_adagrad")
        for scaled in (False, True)
    ),
    *(settling(rule, 64) for rule in ("adamw", "replayed_adam", "momentum")),
]
