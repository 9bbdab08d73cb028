"""A chart of training losses, by matplotlib, which is imported when the chart is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COLOURS = ("#1f5fa8", "#b4521e", "#2d7a4f", "#7a4a9e")


@dataclass(frozen=True)
class Curve:
    """The losses of one model.

    Attributes:
        title: of its panel.
        unit: what the losses are, for the vertical axis.
        losses: of every epoch, at least one.
    """

    title: str
    unit: str
    losses: Sequence[float]


def draw(curves: Sequence[Curve], title: str, path: Path) -> None:
    """Write a PNG with one panel per curve, side by side: the epochs are shared, the scales of losses are not.

    No window, no display and no global setting of matplotlib is touched.

    Args:
        curves: at least one.
        title: of the whole chart.
        path: the file.

    Raises:
        ImportError: without matplotlib.
        OSError: if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(3.9 * len(curves), 3.7), layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    panels = figure.subplots(1, len(curves), sharex=True, squeeze=False)[0]
    for panel, curve, colour in zip(panels, curves, COLOURS * len(curves), strict=False):
        epochs = range(1, len(curve.losses) + 1)
        panel.plot(epochs, curve.losses, color=colour, linewidth=2, marker="o", markersize=4.5)
        panel.annotate(
            f"{curve.losses[-1]:.3g}",
            (epochs[-1], curve.losses[-1]),
            xytext=(4, 9),
            textcoords="offset points",
            ha="right",
            color=colour,
            fontweight="bold",
        )
        panel.set_title(curve.title, fontsize=11, loc="left")
        panel.set_xlabel("epoch")
        panel.set_ylabel(curve.unit)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.set_xlim(0.5, len(epochs) + 0.5)
        panel.set_ylim(0, 1.08 * (max(curve.losses) or 1.0))
        panel.grid(axis="y", color="#dddddd", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=150)
