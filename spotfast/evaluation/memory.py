"""The memory that the values of metrics, and blocks of rankings, take while `evaluate` works."""

from __future__ import annotations

from spotfast.evaluation.plan import OF_LISTS, Plan
from spotfast.ops.topk import vector_topk_bytes

OF_A_VALUE = 5 * 8  # a metric of a user: itself, and as it is weighted, drawn and summed for the intervals
OF_BOOTSTRAP = 8 << 20
OF_A_ROW = 200  # the counts and positions of a user or sequence
OF_A_TARGET = 200  # counts, ranks and hits
OF_AN_EXCLUDED_ITEM = 48  # while its rows are taken
OF_A_RATING = 40  # predicted, and its error


def value_bytes(plan: Plan, count: int) -> tuple[int, int]:
    """Return what the metrics of so many users or sequences take: while blocks are joined, and for the intervals."""
    values = count * sum(not name.startswith("coverage") for name in plan.names())
    return 2 * 8 * values, OF_A_VALUE * values + OF_BOOTSTRAP


def block_bytes(plan: Plan, rows: int, targets: int, excluded: int, num_items: int, dim: int) -> int:
    """Return what a block takes besides its scores, or the vectors that they come from.

    Args:
        plan: what is computed.
        rows: users or sequences in the block.
        targets: test items of all of them.
        excluded: items that are left out of their rankings, of all of them.
        num_items: how many items there are.
        dim: of the vectors that are ranked, 0 if it is rows of scores.
    """
    ranked = rows * OF_A_ROW + targets * OF_A_TARGET + excluded * OF_AN_EXCLUDED_ITEM
    if not any(name in OF_LISTS for name in plan.metrics):
        return ranked
    length = min(plan.cutoffs[-1], num_items)
    return ranked + 3 * 8 * length * rows + 2 * 8 * num_items + vector_topk_bytes(rows, length, num_items, dim)
