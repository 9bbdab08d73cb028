"""Where the negatives of an epoch come from: checked once, drawn for one range of positions after another."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spotfast import validation
from spotfast.ops import negatives, tables
from spotfast.ops.read_once import ReadOnce
from spotfast.positives import Positives

SAMPLERS = ("uniform", "unseen", "popularity")


@dataclass(frozen=True)
class NegativeSampling:
    """Where negatives are drawn from.

    Attributes:
        sampler: one of `SAMPLERS` (see `spotfast.ops.negatives`).
        slots: negatives per positive.
        num_items: the size of the catalogue.
        first: the first item that may be drawn; those below are padding.
        positives: for "unseen" and "popularity".
        thresholds: for "popularity".
    """

    sampler: str
    slots: int
    num_items: int
    first: int = 0
    positives: Positives | None = None
    thresholds: Tensor | None = None

    def check(self, users: Tensor, highest: int) -> None:
        """Raise unless negatives can be drawn for users: once, before they are.

        The host waits for the device at the first check of these positives; at each, if one of them has all items.

        Args:
            users: int32 or int64 (n,), at least 0, on the device where negatives are to be drawn.
            highest: of the users.
        """
        validation.choice("sampling.sampler", self.sampler, SAMPLERS)
        validation.integer("sampling.slots", self.slots, 1)
        validation.integer("sampling.first", self.first, 0)
        validation.integer("sampling.num_items", self.num_items, self.first + 1)
        if self.sampler == "uniform":
            return
        positives = self.positives
        if positives is None or positives.num_items != self.num_items:
            got = None if positives is None else f"those of {positives.num_items}"
            raise ValueError(
                f"sampling.positives must be of {self.num_items} items for sampler {self.sampler!r}, got {got}"
            )
        rows = len(positives.indptr) - 1
        if highest >= rows:
            raise ValueError(f"sampling.positives must have a row for each user up to {highest}, got {rows} rows")
        for name, tensor in (("indptr", positives.indptr), ("items", positives.items)):
            tables.check_device(f"sampling.positives.{name}", tensor, users.device)
        if self.sampler == "popularity":
            negatives.check_thresholds("sampling.thresholds", self.thresholds, self.num_items)
            tables.check_device("sampling.thresholds", self.thresholds, users.device)
        if _longest_row(positives.indptr) >= self.num_items:
            negatives.check_left(users, positives)

    def draw(self, seed: int, epoch: int, start: int, stop: int, users: Tensor, backend: str = "auto") -> Tensor:
        """Draw the negatives of a range of positions: int64 (stop - start, slots).

        Args:
            seed: of the stream.
            epoch: of the stream.
            start: the first position.
            stop: the end of the positions.
            users: int64 (stop - start,), theirs, some of those that were checked: no number is read from a device.
            backend: "auto", "native", "triton" or "reference".
        """
        at = seed, epoch, start, stop, self.slots
        if self.sampler == "uniform":
            return negatives.uniform(*at, self.num_items, first=self.first, device=users.device, backend=backend)
        assert self.positives is not None
        if self.sampler == "unseen":
            return negatives.unseen_of_checked(*at, self.positives, users, backend=backend)
        assert self.thresholds is not None
        return negatives.popularity_of_checked(*at, self.thresholds, self.positives, users, backend=backend)


_longest_row = ReadOnce(lambda indptr: int(indptr.diff().max()))
