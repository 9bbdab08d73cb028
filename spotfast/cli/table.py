"""Tables of text, for terminals."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], align: str, header: bool = True) -> str:
    """Set rows of text in columns, two spaces apart.

    Args:
        rows: strings, as many in every row.
        align: one of "<" (left) and ">" (right) for every column.
        header: draw a line below the first row.

    Example:
        >>> print(table([("model", "loss"), ("BPR", "0.5"), ("hinge", "10.25")], "<>"))
        model   loss
        -----  -----
        BPR      0.5
        hinge  10.25
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [tuple("-" * width for width in widths)] if header else []
    ordered = [*rows[:1], *lines, *rows[1:]]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in ordered
    )
