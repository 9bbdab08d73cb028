"""The loss of a batch of sequences: from the scores of any network; or by one operation, where it is fast."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from spotfast import backends, losses
from spotfast.deferred_table import catch_up
from spotfast.ops.sequence_loss import sequence_loss
from spotfast.sequence.calling import represent, training_scores
from spotfast.sequence.gradients import plain_tables
from spotfast.sequence.representations import MixtureLSTMNet, SequenceNet
from spotfast.sequence_interactions import PADDING_IDX

BatchLoss = Callable[[Tensor, Tensor], Tensor]  # of sequences (B, L) and negatives (B, L, n)


def make_batch_loss(net: nn.Module, loss: str, device: torch.device) -> BatchLoss:
    """Return the fastest way to the mean loss over the steps where an item follows; 0 if there are none.

    Args:
        net: the network.
        loss: "pointwise", "bpr", "hinge" or "adaptive_hinge".
        device: the network's.
    """
    tables = tables_of(net)
    if tables is not None and backends.choose("sequence_loss", device) != "reference":
        assert isinstance(net, SequenceNet)
        return partial(loss_in_one, net, tables, loss)
    return partial(loss_from_scores, net, loss)


def loss_from_scores(net: nn.Module, loss: str, sequences: Tensor, negatives: Tensor) -> Tensor:
    """Return the mean loss, from scores that the network computes."""
    positive, negative = training_scores(net, sequences, negatives)
    if loss != "adaptive_hinge":
        negative = negative[0]
    mean: Tensor = getattr(losses, f"{loss}_loss")(positive, negative, mask=sequences != PADDING_IDX)
    return mean


def loss_in_one(
    net: SequenceNet,
    tables: tuple[nn.Embedding, nn.Embedding],
    loss: str,
    sequences: Tensor,
    negatives: Tensor,
    backend: str = "auto",
) -> Tensor:
    """Return the mean loss, from the network's states and its `tables_of`, without a tensor of negatives' vectors."""
    states, _ = represent(net, sequences)
    candidates = torch.cat([sequences.flatten(), negatives.flatten()])
    for table in tables:
        catch_up(table, candidates)
    vectors, biases = tables
    return sequence_loss(
        states,
        vectors.weight,
        biases.weight,
        sequences,
        negatives.permute(2, 0, 1),
        sequences != PADDING_IDX,
        loss,
        sparse=vectors.sparse,
        backend=backend,
    )


def tables_of(net: nn.Module) -> tuple[nn.Embedding, nn.Embedding] | None:
    """Return the tables of item vectors and biases, if products of states and their rows are a network's scores.

    None for mixtures of tastes, for anyone's network, and for tables that do more than to be looked up.
    """
    tables = plain_tables(net)
    if tables is None or isinstance(net, MixtureLSTMNet):
        return None
    vectors, biases = tables
    # A padding row has no gradient: with the mask, and with negatives that never are padding, it would not get one.
    padding = {vectors.padding_idx, biases.padding_idx} <= {None, PADDING_IDX}
    shapes = biases.embedding_dim == 1 and len(vectors.weight) == len(biases.weight)
    return (vectors, biases) if padding and shapes and vectors.sparse == biases.sparse else None
