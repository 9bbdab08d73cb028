"""Adam on the rows that a sparse gradient touches, with the semantics of `torch.optim.Adam` on dense gradients.

A dense step moves every row, also those without a gradient. Such zero-gradient steps can wait until the row is next
read. A row last updated at step s and read again after K steps owes, elementwise,

    p -= A[s] m / (sqrt(v) + eps B[s] / A[s]),   m *= b1^K,   v *= b2^K

    A[s] = sum over t > s of lr[t] r^(t-s) sqrt(1 - b2^t) / (1 - b1^t),   r = b1 / sqrt(b2)
    B[s] = sum over t > s of lr[t] q^(t-s)     (1 - b2^t) / (1 - b1^t),   q = b1 / b2

to first order in eps. Early steps (s < 512), where first order does not do, and all steps with weight decay, where
there is no closed form, are replayed one by one, and so is everything for betas whose sums do not settle within 256
steps (r or q too close to 1). What a row owes decays as r^K: at the default betas nothing is left after 160 steps.

Moments may be of a wider type than the weights: all is computed in theirs, and weights are rounded as they are stored.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EARLY = 512  # rows last updated before this step are replayed
WINDOW = 256  # steps after which A[s] and B[s] no longer change
SETTLED = 1e-11  # what r^WINDOW and q^WINDOW must be below for that
GONE = 5e-8  # what is left of a step's size, r^K, when the replay ends
NEGLIGIBLE = 1e-20  # smaller first moments are set to zero: denormals are slow


class OwedSteps:
    """Learning rates of the steps taken, and A[s], B[s] for each step s; all grow by one entry per step."""

    def __init__(self, beta1: float, beta2: float, taken: int = 0) -> None:
        self.base = taken  # the step that entry 0 stands for
        self.taken = taken
        self.beta1, self.beta2 = beta1, beta2
        self._a: NDArray[np.float64] = np.zeros(1024)
        self._b: NDArray[np.float64] = np.zeros(1024)
        self._learning_rates: NDArray[np.float64] = np.zeros(1024)
        r = beta1 / math.sqrt(beta2) if beta2 else math.inf
        q = beta1 / beta2 if beta2 else math.inf
        self.closed_form = max(r, q) ** WINDOW < SETTLED
        # How many missed steps a replay takes; after these, nothing moves.
        self.replayed = math.ceil(math.log(GONE) / math.log(max(r, 1e-9))) if r < 0.999 else None
        if self.closed_form:
            ages = np.arange(WINDOW, 0, -1)
            self._r_powers, self._q_powers = r**ages, q**ages

    def take(self, learning_rate: float) -> None:
        """Record that a step was taken."""
        self.taken += 1
        end = self.taken - self.base
        if end >= len(self._a):
            for name in ("_a", "_b", "_learning_rates"):
                setattr(self, name, np.concatenate([getattr(self, name), np.zeros(end)]))
        self._learning_rates[end] = learning_rate
        if not self.closed_form:
            return
        first = max(0, end - WINDOW)
        correction1, correction2 = 1 - self.beta1**self.taken, 1 - self.beta2**self.taken
        self._a[first:end] += learning_rate * np.sqrt(correction2) / correction1 * self._r_powers[first - end :]
        self._b[first:end] += learning_rate * correction2 / correction1 * self._q_powers[first - end :]

    def restarted(self) -> OwedSteps:
        """Return the same without a past: every row is up to date."""
        return OwedSteps(self.beta1, self.beta2, self.taken)

    def at(self, last: Tensor) -> tuple[Tensor, Tensor]:
        """A and B for rows last updated at the steps `last`, float64."""
        index = (last - self.base).cpu().numpy()
        return tuple(torch.from_numpy(x[index]).to(last.device) for x in (self._a, self._b))  # type: ignore[return-value]

    def learning_rates(self, steps: Tensor) -> Tensor:
        """Learning rates of the given steps, float64."""
        return torch.from_numpy(self._learning_rates[(steps - self.base).cpu().numpy()]).to(steps.device)


def catch_up(
    weight: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    last: Tensor,
    rows: Tensor,
    owed: OwedSteps,
    eps: float,
    weight_decay: float,
) -> None:
    """Take the zero-gradient steps that `rows` owe, in place.

    Args:
        weight: (N, D) parameters.
        exp_avg: (N, D) first moments.
        exp_avg_sq: (N, D) second moments.
        last: (N,) int64, the step up to which each row is done.
        rows: int64, distinct.
        owed: the steps taken since.
        eps: as in `torch.optim.Adam`.
        weight_decay: as in `torch.optim.Adam`.
    """
    rows = rows[last[rows] < owed.taken]
    if not weight_decay:
        untouched = rows[last[rows] == 0]  # their moments are zero: nothing is owed
        last[untouched] = owed.taken
        rows = rows[last[rows] < owed.taken]
    if len(rows) == 0:
        return
    early = (last[rows] < EARLY) | (weight_decay != 0) | (not owed.closed_form)
    _replay(weight, exp_avg, exp_avg_sq, last, rows[early], owed, eps, weight_decay)
    rows = rows[~early]
    missed = (owed.taken - last[rows]).double().unsqueeze(1)
    a, b = (x.unsqueeze(1) for x in owed.at(last[rows]))
    m, v = exp_avg[rows].double(), exp_avg_sq[rows].double()
    share = torch.where(a > 0, b / a, 1.0)  # a is zero where the learning rate was
    weight[rows] -= (a * m / (v.sqrt() + eps * share)).to(exp_avg.dtype)
    _store_moments(exp_avg, exp_avg_sq, rows, m * owed.beta1**missed, v * owed.beta2**missed)
    last[rows] = owed.taken


def update(
    weight: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    last: Tensor,
    rows: Tensor,
    gradient: Tensor,
    owed: OwedSteps,
    learning_rate: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Take one step: Adam with the gradients of `rows`, everything else deferred. In place.

    Args:
        weight: (N, D) parameters.
        exp_avg: (N, D) first moments.
        exp_avg_sq: (N, D) second moments.
        last: (N,) int64, the step up to which each row is done.
        rows: (R,) int64, distinct.
        gradient: (R, D).
        owed: the steps taken before; one is added.
        learning_rate: of this step.
        eps: as in `torch.optim.Adam`.
        weight_decay: as in `torch.optim.Adam`.
    """
    catch_up(weight, exp_avg, exp_avg_sq, last, rows, owed, eps, weight_decay)
    owed.take(learning_rate)
    step = owed.taken
    gradient = gradient + weight_decay * weight[rows].to(exp_avg.dtype) if weight_decay else gradient
    m = owed.beta1 * exp_avg[rows] + (1 - owed.beta1) * gradient
    v = owed.beta2 * exp_avg_sq[rows] + (1 - owed.beta2) * gradient * gradient
    denominator = v.sqrt() / (1 - owed.beta2**step) ** 0.5 + eps
    weight[rows] -= learning_rate / (1 - owed.beta1**step) * m / denominator
    _store_moments(exp_avg, exp_avg_sq, rows, m, v)
    last[rows] = step


class DeferredRows:
    """Up to which step each row of a table is done. The operation is documented in `spotfast.ops.row_update`."""

    def __init__(
        self,
        count: int,
        device: torch.device,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        steps: int,
    ) -> None:
        self._owed = OwedSteps(*betas, steps)
        self._last = torch.full((count,), steps, dtype=torch.int64, device=device)
        self._settings = eps, weight_decay

    @torch.no_grad()
    def catch_up(self, table: tuple[Tensor, Tensor, Tensor], ids: Tensor) -> None:
        """Bring rows up to date."""
        self._check(ids)
        catch_up(*table, self._last, ids.unique(), self._owed, *self._settings)

    @torch.no_grad()
    def update(self, table: tuple[Tensor, Tensor, Tensor], ids: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Take one step."""
        self._check(ids)
        shape = table[0].shape
        wide = gradient.to(table[1].dtype)
        summed = torch.sparse_coo_tensor(ids.unsqueeze(0), wide, shape, check_invariants=False).coalesce()
        rows, values = summed.indices()[0], summed.values()
        update(*table, self._last, rows, values, self._owed, learning_rate, *self._settings)

    @torch.no_grad()
    def flush(self, table: tuple[Tensor, Tensor, Tensor]) -> None:
        """Bring all rows up to date."""
        rows = torch.arange(len(self._last), device=self._last.device)
        catch_up(*table, self._last, rows, self._owed, *self._settings)
        self._owed = self._owed.restarted()

    def _check(self, ids: Tensor) -> None:
        count = len(self._last)
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
            raise IndexError(f"ids must be in [0, {count}), got {int(ids.min())} .. {int(ids.max())}")


def _replay(
    weight: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    last: Tensor,
    rows: Tensor,
    owed: OwedSteps,
    eps: float,
    weight_decay: float,
) -> None:
    """Take the missed steps of `rows` one by one, the k-th of all rows side by side."""
    if len(rows) == 0:
        return
    start = last[rows]
    missed = owed.taken - start
    replayed = missed if weight_decay or owed.replayed is None else missed.clamp(max=owed.replayed)
    # Rows with the most to do first, so that those still at work are always a prefix.
    replayed, order = replayed.sort(descending=True, stable=True)
    rows, start, missed = rows[order], start[order], missed[order]
    m, v = exp_avg[rows], exp_avg_sq[rows]
    p = weight[rows].to(m.dtype)
    still = torch.searchsorted(-replayed, -torch.arange(1, int(replayed[0]) + 1, device=rows.device), right=True)
    for k, active in enumerate(still.tolist(), start=1):
        steps = start[:active] + k
        lr = owed.learning_rates(steps)
        t = steps.double()  # a power of an integer tensor would be computed in float32
        step_size = (lr / (1 - owed.beta1**t)).to(p.dtype).unsqueeze(1)
        correction2 = (1 - owed.beta2**t).sqrt().to(p.dtype).unsqueeze(1)
        m[:active] *= owed.beta1
        v[:active] *= owed.beta2
        if weight_decay:
            gradient = weight_decay * p[:active]
            m[:active] += (1 - owed.beta1) * gradient
            v[:active] += (1 - owed.beta2) * gradient * gradient
        p[:active] -= step_size * m[:active] / (v[:active].sqrt() / correction2 + eps)
    rest = (missed - replayed).double().unsqueeze(1)
    weight[rows] = p.to(weight.dtype)
    _store_moments(exp_avg, exp_avg_sq, rows, m * owed.beta1**rest, v * owed.beta2**rest)
    last[rows] = owed.taken


def _store_moments(exp_avg: Tensor, exp_avg_sq: Tensor, rows: Tensor, m: Tensor, v: Tensor) -> None:
    exp_avg[rows] = torch.where(m.abs() < NEGLIGIBLE, 0.0, m).to(exp_avg.dtype)
    exp_avg_sq[rows] = v.to(exp_avg_sq.dtype)
