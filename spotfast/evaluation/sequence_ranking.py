"""Sequences with their last items, some at a time, ready to be ranked.

Straight from final states where a model scores by one product of these and an item's vector, on its device; else from
rows of predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation.padded import PaddedBlock
from spotfast.evaluation.ranking import Block, ScoredBlock, check_items
from spotfast.evaluation.scoring import has_own_predict
from spotfast.evaluation.sequence_scoring import (
    Blocks,
    check_of_sequences,
    own_states,
    predicted_blocks,
    ranked_tables,
    score_buffer,
    scores_after,
)
from spotfast.ops.scores import are_bounded
from spotfast.rows import Rows
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.training.sequence import Sequences

REPRESENTED = 1024  # sequences that become final states at once


def sequence_blocks(
    model: Any, test: Sequences, held_out: int, exclude_preceding: bool, at_once: int | None = None
) -> Iterator[Block]:
    """Yield the sequences, in order, with their last items as targets.

    Args:
        model: anything with `predict(sequence)`, which gives one score per item.
        test: the sequences (N, L).
        held_out: how many items at the end the model does not see, at least 1 and below L.
        exclude_preceding: leave the items before them out of the ranking.
        at_once: how many sequences become final states at a time. None: as many as is good for speed.

    Raises:
        TypeError, ValueError: as the scores, in `spotfast.evaluation`.
    """
    check_of_sequences(model, test, held_out)
    at_once = REPRESENTED if at_once is None else at_once

    def scored(blocks: Blocks) -> Iterator[Block]:
        for rows, scores in blocks:
            yield ScoredBlock(scores, *_targets_and_excluded(rows, held_out, scores.shape[1], exclude_preceding))

    if not has_own_predict(model, ImplicitSequenceModel):
        yield from scored(predicted_blocks(model, test, held_out, at_once))
        return
    scorer, num_items, buffer = model._scorer(), model._num_items, None
    assert num_items is not None
    tables = ranked_tables(scorer, model.device)
    for first, rows, states in own_states(model, scorer, test, held_out, at_once):
        vectors = None if tables is None else (states.contiguous(), None, *tables)
        if vectors is not None and are_bounded(*vectors):
            yield PaddedBlock(vectors, *_targets_and_excluded(rows, held_out, num_items, exclude_preceding))
        else:  # there are no vectors; or infinities, or NaN: row by row, which names the sequence
            buffer = score_buffer(model, at_once) if buffer is None else buffer
            yield from scored(scores_after(scorer, first, rows, states, buffer))


def _targets_and_excluded(
    rows: NDArray[np.integer[Any]], held_out: int, num_items: int, exclude_preceding: bool
) -> tuple[Rows, Rows | None]:
    """Split sequences (S, L) into the distinct items held out, and those before them if they are to be excluded."""
    targets = _distinct(rows[:, -held_out:])
    check_items("test", targets, num_items)
    if not exclude_preceding:
        return targets, None
    excluded = _distinct(rows[:, :-held_out])
    check_items("test", excluded, num_items)
    return targets, excluded


def _distinct(ids: NDArray[np.integer[Any]]) -> Rows:
    """Return the distinct ids of every row of (S, W), ascending."""
    ordered = np.sort(ids, axis=1).astype(np.int64)
    new = np.ones(ordered.shape, np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return Rows(np.concatenate([[0], np.cumsum(new.sum(axis=1))]), ordered[new])
