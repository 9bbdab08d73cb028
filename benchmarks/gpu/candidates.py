"""Who trains on the GPU: the kernels, the reference, and a plain PyTorch loop with sparse gradients."""

from __future__ import annotations

import copy
from typing import Protocol

import harness
import torch
from cases import Problem
from torch import Tensor, nn

from spotfast.ops.factorization_epoch import factorization_epoch
from spotfast.ops.permutation import permutation

TOLERANCE = 1e-4  # of what a step changes, in the norm: sums are in another order


class Trainer(Protocol):
    """Trains on the problem that it was made for."""

    def __call__(self) -> int:
        """Train for some steps; return on how many samples."""
        ...


class Epochs:
    """Whole epochs of an engine, one after the other.

    Args:
        problem: trained in place.
        backend: of `factorization_epoch`.
        steps: per call at most; the engine stops between groups of its steps.
    """

    def __init__(self, problem: Problem, backend: str, steps: int | None = None) -> None:
        self._problem, self._backend, self._steps = problem, backend, steps
        self._epoch = 0

    def __call__(self) -> int:
        """Train for an epoch, or for some steps of it; return on how many samples."""
        problem, done = self._problem, 0
        at = problem.at(self._epoch)

        def report(positions: int) -> bool:
            nonlocal done
            done = positions
            return self._steps is None or positions < self._steps * at.batch_size

        tables = (problem.users, problem.items)
        result = factorization_epoch(
            *tables, problem.interactions, problem.sampling, "bpr", problem.rule, at,
            report=report, backend=self._backend,
        )  # fmt: skip
        harness.require(result.loss == result.loss, f"{self._backend}: the loss is {result.loss}")
        self._epoch += 1
        return done


class SparseLoop:
    """As one writes it in PyTorch: `nn.Embedding(sparse=True)`, `SparseAdam`, samples and negatives drawn at once."""

    def __init__(self, problem: Problem, steps: int) -> None:
        self._problem, self._steps = problem, steps
        tables = (problem.users.vectors, problem.items.vectors, problem.users.biases, problem.items.biases)
        self._layers = [nn.Embedding.from_pretrained(table, freeze=False, sparse=True) for table in tables]
        parameters = [layer.weight for layer in self._layers]
        self._optimizer = torch.optim.SparseAdam(parameters, lr=problem.rule.learning_rate)
        self._start = 0

    def __call__(self) -> int:
        """Take some steps; return on how many samples."""
        problem = self._problem
        pairs, size = problem.interactions.pairs, problem.at().batch_size
        batches = min(self._steps, -(-len(pairs) // size))
        order = torch.randperm(len(pairs), device=pairs.device)[: batches * size]
        negatives = torch.randint(len(problem.items.vectors), (len(order),), device=pairs.device)
        for batch, drawn in zip(order.split(size), negatives.split(size), strict=True):
            self.step(pairs[batch].long(), drawn)
        return len(order)

    def step(self, pairs: Tensor, negatives: Tensor) -> None:
        """Train on one batch."""
        users, items, user_biases, item_biases = self._layers
        ids, positives = pairs.unbind(1)
        vectors, bias = users(ids), user_biases(ids).squeeze(1)

        def scores(candidates: Tensor) -> Tensor:
            return (vectors * items(candidates)).sum(1) + bias + item_biases(candidates).squeeze(1)

        loss = (1 - torch.sigmoid(scores(positives) - scores(negatives))).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def check(problem: Problem, backend: str) -> None:
    """Require that one step of the kernels does what one of the reference does, on copies.

    Raises:
        harness.RefusalError: naming the tensor that differs, and by how much.
    """
    start = [tensor.clone() for tensor in problem.tensors]
    ends = []
    for candidate in (backend, "reference"):
        twin = copy.deepcopy(problem)
        Epochs(twin, candidate)()
        ends.append(twin.tensors)
    for number, (before, own, expected) in enumerate(zip(start, *ends, strict=True)):
        change, difference = (expected - before).norm().item(), (own - expected).norm().item()
        harness.require(
            difference <= TOLERANCE * change + 1e-12,
            f"{problem.case}: tensor {number} is off by {difference:.3g} where a step changes it by {change:.3g}",
        )


def check_loop(problem: Problem) -> None:
    """Require that a step of the loop is one of the reference's: the same samples, the same negatives."""
    twin = copy.deepcopy(problem)
    pairs, at = problem.interactions.pairs, problem.at()
    order = permutation(at.seed, at.epoch, len(pairs), 0, len(pairs), device=pairs.device)
    drawn = problem.sampling.draw(at.seed, at.epoch, 0, len(pairs), pairs[order, 0].long())
    SparseLoop(problem, 1).step(pairs[order].long(), drawn.squeeze(1))
    Epochs(twin, "reference")()
    for own, expected in zip(problem.tensors[:2], twin.tensors[:2], strict=True):
        far = (own - expected).norm().item() / max(expected.norm().item(), 1e-12)
        harness.require(far < TOLERANCE, f"a step of the SparseAdam loop is off by {far:.3g}")
