"""An epoch of training on the device (see `spotfast.ops.factorization_epoch`).

The host prepares samples chunk by chunk and launches steps; it reads nothing back before the end of the epoch.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from spotfast import device_memory
from spotfast.kernels.epoch_entries import Chunk, Draw, tensors_of
from spotfast.kernels.epoch_rows import OWING, EpochTable
from spotfast.kernels.factorization_step import Scratch, Step
from spotfast.kernels.language import triton
from spotfast.kernels.launch import rehearsal
from spotfast.kernels.schedule import Schedule
from spotfast.kernels.specialisation import Specialisation

if TYPE_CHECKING:
    from spotfast.ops.factorization_epoch import TrainingInteractions
    from spotfast.ops.tables import EpochRange, Table, UpdateRule

GROUP = 32  # steps between two reports, and in a CUDA graph
WORTHWHILE = 4 * GROUP  # batches in an epoch for which a graph is made: it takes as long as to launch its steps
AHEAD = 2  # groups of steps that the host launches before the device has done them: an interrupt waits for these
MOST_ENTRIES = 1 << 25  # candidates of a chunk, if it has more than one batch: 16 M samples with one negative each


def prepare(
    users: "Table",
    items: "Table",
    interactions: "TrainingInteractions",
    draw: Draw | None,
    slots: int,
    loss: str,
    rule: "UpdateRule",
    at: "EpochRange",
) -> "Epoch":
    """Return an epoch that is ready to be trained; arguments as in `spotfast.ops.factorization_epoch`.

    `draw` draws negatives, `slots` per positive; for losses of ratings it is None, and `slots` 0.

    Raises:
        KernelMissingError: if a kernel cannot run here; nothing has changed.
        DeviceMemoryError: if the device has too little memory; nothing has changed.
    """
    with torch.cuda.device_of(users.vectors):
        epoch = _prepared(users, items, interactions, draw, slots, loss, rule, at)
        epoch.rehearse()
        return epoch


class Epoch:
    """An epoch whose first chunk of samples is ready.

    Args:
        chunk_batches: how many batches are prepared at once.
        The others as in `prepare`.

    Attributes:
        batches: how many have been trained on.
    """

    def __init__(
        self,
        users: "Table",
        items: "Table",
        interactions: "TrainingInteractions",
        draw: Draw | None,
        slots: int,
        loss: str,
        rule: "UpdateRule",
        at: "EpochRange",
        chunk_batches: int,
    ) -> None:
        self._total, dim, device = len(interactions.pairs), users.vectors.shape[1], users.vectors.device
        self._batch_size = min(at.batch_size, self._total)
        chunk, scratch = _room(chunk_batches, self._batch_size, 1 + slots, dim, draw is None, device)
        schedule = Schedule(rule, at.steps, device)
        tables = (_table(table, schedule.rule) for table in (users, items))
        self._step = Step(*tables, chunk, scratch, schedule, loss, self._batch_size, at.seed)
        sizes = len(users.vectors), len(items.vectors)
        self._fill = lambda start: chunk.fill(interactions, draw, at, start, self._batch_size, sizes)
        self._learning_rate = rule.learning_rate
        self._losses = torch.empty(triton.cdiv(self._total, self._batch_size), dtype=torch.float64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._events: deque[torch.cuda.Event] = deque()
        self.batches = 0
        self._steps_before = at.steps
        self._reported = 0
        self._filled = self._fill(0)

    def train(self, report: Callable[[int], bool]) -> tuple[float, int]:
        """Train in place; return the mean of the losses of the batches, and how many there were.

        After an error, all rows are up to date with the steps that were taken, and these have been reported.
        """
        with torch.cuda.device_of(self._losses):
            try:
                self.run(report)
            except BaseException:
                self.settle()
                self._report_steps(report)
                raise
            self.settle()
            return self.mean_loss(), self.batches

    def rehearse(self) -> None:
        """Find all kernels that change the tables, before any of them does."""
        with rehearsal():
            self._step.schedule.plan(self._learning_rate)
            self._step.launch()
            self._step.settle()

    def run(self, report: Callable[[int], bool]) -> None:
        """Train until the end, or until `report` says stop. All rows must be settled afterwards."""
        capacity = len(self._step.chunk.users)
        for start in range(0, self._total, capacity):
            count = self._fill(start) if start else self._filled
            batches, taken, going_on = triton.cdiv(count, self._batch_size), 0, True
            while taken < batches and going_on:
                steps = min(GROUP, batches - taken)
                self._take(steps, taken)
                taken += steps
                self._reported = start + min(taken * self._batch_size, count)
                going_on = report(self._reported)
            torch.sum(self._step.scratch.losses[:taken], dim=1, out=self._losses[self.batches :][:taken])
            self.batches += taken
            if not going_on:
                return

    def settle(self) -> None:
        """Bring all rows up to date."""
        self._step.settle()

    def mean_loss(self) -> float:
        """Return the mean of the losses of the batches, when the device is done with them."""
        return self._losses[: self.batches].mean().item()

    def _report_steps(self, report: Callable[[int], bool]) -> None:
        """Report steps of a group that was not finished: the device knows how many were taken."""
        taken = self._step.schedule.total() - self._steps_before
        positions = min(taken * self._batch_size, self._total)
        if positions > self._reported:
            report(positions)

    def _take(self, steps: int, taken: int) -> None:
        """Take steps, at most GROUP, of the chunk's batches from number `taken` on."""
        schedule = self._step.schedule
        if schedule.room() < GROUP:
            self._step.settle()
        schedule.plan(self._learning_rate)
        self._step.chunk.place[0] = schedule.taken - taken
        if self._is_replayed(steps):
            self._graph = self._graph or _captured(self._step)
            self._graph.replay()
        else:
            for _ in range(steps):
                self._step.launch()
        schedule.advance(steps)
        self._keep_pace()

    def _is_replayed(self, steps: int) -> bool:
        """Whether to take steps by a graph. The first group loads the kernels, which a capture must not do."""
        on_cuda = self._losses.device.type == "cuda"
        return on_cuda and steps == GROUP and bool(self._events) and len(self._losses) >= WORTHWHILE

    def _keep_pace(self) -> None:
        """Wait for the device if it has more than AHEAD groups left to do."""
        if self._losses.device.type == "cuda":
            self._events.append(torch.cuda.Event(blocking=True))
            self._events[-1].record()
            if len(self._events) > AHEAD:
                self._events.popleft().synchronize()


def _captured(step: Step) -> torch.cuda.CUDAGraph:
    """Return a graph of a group of steps."""
    device = step.chunk.place.device
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            for _ in range(GROUP):
                step.launch()
        finally:
            graph.capture_end()
    torch.cuda.current_stream(device).wait_stream(stream)
    return graph


def _prepared(
    users: "Table",
    items: "Table",
    interactions: "TrainingInteractions",
    draw: Draw | None,
    slots: int,
    loss: str,
    rule: "UpdateRule",
    at: "EpochRange",
) -> Epoch:
    """Return the epoch, with chunks as large as there is memory for."""
    total, device = len(interactions.pairs), users.vectors.device
    batch_size, candidates = min(at.batch_size, total), 1 + slots
    batches = min(max(1, MOST_ENTRIES // (batch_size * candidates)), triton.cdiv(total, batch_size))
    while True:
        try:
            return Epoch(users, items, interactions, draw, slots, loss, rule, at, batches)
        except torch.cuda.OutOfMemoryError as error:
            if batches == 1:
                dim, sizes = users.vectors.shape[1], (len(users.vectors), len(items.vectors))
                room = _room(1, batch_size, candidates, dim, draw is None, torch.device("meta"))
                needed = {
                    f"a batch of {batch_size} interactions with {candidates} candidates each": _bytes_of(room),
                    "sorting it": room[0].filling_bytes(batch_size, sizes),
                }
                raise device_memory.too_little(device, needed, device_memory.FOR_BATCHES) from error
        batches //= 2


def _room(
    batches: int, batch_size: int, candidates: int, dim: int, rated: bool, device: torch.device
) -> tuple[Chunk, Scratch]:
    """Return room for the samples of a chunk, and for what is between the kernels."""
    chunk = Chunk.empty(batches, batch_size, candidates, rated, device)
    return chunk, Scratch.empty(batches, batch_size, candidates, dim, device)


def _bytes_of(room: tuple[Chunk, Scratch]) -> int:
    return sum(tensor.nbytes for tensor in tensors_of(room))


def _table(table: "Table", rule: str) -> EpochTable:
    last = torch.zeros(len(table.vectors), dtype=torch.int32, device=table.vectors.device) if rule in OWING else None
    states = [(*own, None, None)[:2] for own in (table.vector_states, table.bias_states)]
    return EpochTable(table.vectors.detach(), table.biases.detach(), *states[0], *states[1], last)


SPECIALISATIONS: list[Specialisation] = []  # no kernels: the files that have them list their own
