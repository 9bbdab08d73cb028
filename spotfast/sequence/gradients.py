"""Sparse or dense: which gradients the tables of a built-in sequence network have while it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from spotfast import backends
from spotfast.ops.tables import MOST_COLUMNS_IN_KERNELS
from spotfast.sequence.calling import is_built_in
from spotfast.training import recognition

ROWS_PER_ID = 3  # of a table, per id that a batch looks up: with more, sparse gradients are faster than dense ones


def plain_tables(net: nn.Module) -> tuple[nn.Embedding, nn.Embedding] | None:
    """Return the tables of item vectors and biases of a built-in network, if they do nothing but to be looked up."""
    if not is_built_in(net):
        return None
    layers: dict[str, nn.Module] = {"item_embeddings": net.item_embeddings, "item_biases": net.item_biases}
    try:
        vectors, biases = recognition.require_plain(net, type(net), layers)
    except recognition.NotRecognisedError:
        return None
    return vectors, biases


@contextmanager
def sparse_where_faster(net: nn.Module, lookups: int, device: torch.device) -> Iterator[None]:
    """Let large tables of a built-in network have sparse gradients inside the block.

    Args:
        net: the network; its optimizer has the same results with either kind.
        lookups: how many ids a batch looks up.
        device: the network's.
    """
    tables = plain_tables(net) or ()
    before = [table.sparse for table in tables]
    backend = backends.choose("row_update", device)
    columns = max((table.embedding_dim for table in tables), default=0)
    fits = backend == "native" or (backend == "triton" and columns <= MOST_COLUMNS_IN_KERNELS)
    for table in tables:
        table.sparse = table.sparse or (fits and table.num_embeddings > ROWS_PER_ID * lookups)
    try:
        yield
    finally:
        for table, sparse in zip(tables, before, strict=True):
            table.sparse = sparse
