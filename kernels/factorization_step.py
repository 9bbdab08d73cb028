"""One step of an epoch of training (see `spotfast.ops.factorization_epoch`), as a sequence of launches.

Rows that owe steps are caught up in registers, by each kernel as it reads them, and are written by their update alone.
Which batch it is, kernels see from the schedule's counter: a CUDA graph of many steps can be replayed.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from spotfast.kernels.epoch_entries import BatchRuns, Chunk
from spotfast.kernels.epoch_rows import EpochTable
from spotfast.kernels.epoch_scores import SCORED, score_kernel
from spotfast.kernels.epoch_updates import (
    SETTLED,
    UPDATED,
    settle_table_kernel,
    sum_row_pieces_kernel,
    sum_warps,
    update_rows_kernel,
    update_warps,
)
from spotfast.kernels.language import triton
from spotfast.kernels.launch import launch
from spotfast.kernels.rows import tile
from spotfast.kernels.runs import PIECE, places
from spotfast.kernels.schedule import Schedule
from spotfast.kernels.specialisation import Specialisation


class Scratch(NamedTuple):
    """What is between the kernels of a step, uninitialised: see these."""

    losses: Tensor
    gradients: Tensor
    user_sources: Tensor
    user_gradients: Tensor
    user_bias_gradients: Tensor
    pieces: Tensor
    bias_pieces: Tensor

    @classmethod
    def empty(cls, batches: int, batch_size: int, candidates: int, dim: int, device: torch.device) -> "Scratch":
        """Return room for the steps of some batches."""
        programs = triton.cdiv(batch_size, tile(dim, SCORED)[0])
        pieces = places(batch_size * candidates)
        of_samples = [(batch_size, candidates), (batch_size, dim), (batch_size, dim), (batch_size,)]
        shapes = [*of_samples, (pieces, dim), (pieces,)]
        losses = torch.empty((batches, programs), dtype=torch.float64, device=device)
        return cls(losses, *(torch.empty(shape, dtype=torch.float32, device=device) for shape in shapes))


class Step(NamedTuple):
    """All that a step needs, in memory that stays: its launches can be captured in a CUDA graph.

    Attributes:
        users, items: the tables.
        chunk: where the batch is.
        scratch: of the same sizes.
        schedule: planned.
        loss: its name.
        batch_size: samples per batch.
        seed: of the rounding to bfloat16.
    """

    users: EpochTable
    items: EpochTable
    chunk: Chunk
    scratch: Scratch
    schedule: Schedule
    loss: str
    batch_size: int
    seed: int

    def launch(self) -> None:
        """Take the step, on the device only: see `Schedule.launch_take`.

        A step that was begun counts, whatever becomes of it: no row is ahead of the schedule.
        """
        try:
            self._launch_updates()
        finally:
            self.schedule.launch_take()

    def _launch_updates(self) -> None:
        scratch, chunk, rule = self.scratch, self.chunk, self.schedule.rule
        (_, candidates), dim = scratch.gradients.shape, scratch.user_sources.shape[1]
        samples, block = tile(dim, SCORED)
        launch(
            score_kernel, (scratch.losses.shape[1],),
            *scratch[:5], chunk.users, chunk.items, chunk.ratings, chunk.weights,
            *self.users.weights(), *self.items.weights(),
            chunk.place, self.schedule.array, self.schedule.counter, self.batch_size, candidates, dim,
            LOSS=self.loss, OWED="sgd" if self.users.last is None else rule, SAMPLES=samples, BLOCK_D=block,
        )  # fmt: skip
        self._update(self.users, scratch.user_gradients, scratch.user_bias_gradients, chunk.of_users, 1, scaled=False)
        self._update(self.items, scratch.user_sources, scratch.gradients, chunk.of_items, candidates, scaled=True)

    def _update(
        self, table: EpochTable, sources: Tensor, factors: Tensor, runs: BatchRuns, candidates: int, scaled: bool
    ) -> None:
        """Update the rows of a table. Arguments as in `read_entries`, with `candidates` entries per sample."""
        entries, dim = self.batch_size * candidates, sources.shape[1]
        pieces = self.scratch.pieces, self.scratch.bias_pieces
        place, counter = self.chunk.place, self.schedule.counter
        rows, block = tile(dim, UPDATED)
        if entries > PIECE.value:
            launch(
                sum_row_pieces_kernel, (places(entries),),
                *pieces, sources, factors, runs.order, runs.run_of, runs.starts, place, counter,
                self.batch_size, candidates, dim,
                num_warps=sum_warps(block), SCALED=scaled, BLOCK_D=block,
            )  # fmt: skip
        launch(
            update_rows_kernel, (triton.cdiv(min(entries, len(table.vectors)), rows),),
            *table, sources, factors, *pieces, *runs, place, self.schedule.array, counter,
            self.seed, int(scaled), self.batch_size, candidates, dim,
            num_warps=update_warps(block), RULE=self.schedule.rule, SCALED=scaled, ROWS=rows, BLOCK_D=block,
        )  # fmt: skip

    def settle(self) -> None:
        """Bring all rows up to date; the schedule starts again."""
        if self.users.last is not None:
            for number, table in enumerate((self.users, self.items)):
                count, dim = table.vectors.shape
                rows, block = tile(dim, SETTLED)
                launch(
                    settle_table_kernel, (triton.cdiv(count, rows),),
                    *table, self.schedule.array, self.schedule.counter, self.seed, number, count, dim,
                    RULE=self.schedule.rule, ROWS=rows, BLOCK_D=block,
                )  # fmt: skip
        self.schedule.restart()


SPECIALISATIONS: list[Specialisation] = []  # no kernels: the files that have them list their own
