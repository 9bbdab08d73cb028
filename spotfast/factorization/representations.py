"""Networks that score users for items."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spotfast import hooks, validation
from spotfast.layers import TABLES, BloomEmbedding, ScaledEmbedding, ZeroEmbedding, check_layer, vector_length
from spotfast.ops.bilinear import bilinear

ONE_KERNEL = "cuda"  # the type of the devices that have one for all lookups, products and biases


class BilinearNet(nn.Module):
    """Dot product of user and item vectors, plus user bias, plus item bias (Koren et al. 2009).

    Args:
        num_users: rows of the user tables.
        num_items: rows of the item tables.
        embedding_dim: the length D of the vectors.
        user_embedding_layer: a module from ids (B,) to vectors (B, D) or (B, 1, D), in place of a `ScaledEmbedding`.
            Used as it is, but for one thing: the padding of a `BloomEmbedding` is switched off, for there is none here.
        item_embedding_layer: likewise for items.
        sparse: gradients of the built-in tables are sparse.

    Attributes:
        user_embeddings, item_embeddings: the layers of the vectors.
        user_biases, item_biases: `ZeroEmbedding` of one column.

    Raises:
        ValueError, TypeError: naming the argument, the value and what is allowed.

    Example:
        >>> import torch
        >>> net = BilinearNet(num_users=3, num_items=4, embedding_dim=8)
        >>> net(torch.tensor([0, 2]), torch.tensor([1, 3])).shape
        torch.Size([2])
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 32,
        user_embedding_layer: nn.Module | None = None,
        item_embedding_layer: nn.Module | None = None,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        validation.integer("num_users", num_users, 1)
        validation.integer("num_items", num_items, 1)
        sparse = validation.flag("sparse", sparse)
        self.embedding_dim = validation.integer("embedding_dim", embedding_dim, 1, validation.MAX_ID)
        self.user_embeddings = (
            ScaledEmbedding(num_users, embedding_dim, sparse=sparse)
            if user_embedding_layer is None
            else check_layer("user_embedding_layer", user_embedding_layer)
        )
        self.item_embeddings = (
            ScaledEmbedding(num_items, embedding_dim, sparse=sparse)
            if item_embedding_layer is None
            else check_layer("item_embedding_layer", item_embedding_layer)
        )
        lengths = vector_length(self.user_embeddings), vector_length(self.item_embeddings)
        if None not in lengths and lengths[0] != lengths[1]:
            raise ValueError(
                "vectors of users and items must be of one length (of the layers, or else embedding_dim), "
                f"got {lengths[0]} and {lengths[1]}"
            )
        # User 0 and item 0 are a user and an item here: Bloom layers, whose default is to pad with id 0, do not pad.
        for layer in (*self.user_embeddings.modules(), *self.item_embeddings.modules()):
            if isinstance(layer, BloomEmbedding):
                layer.padding_idx = None
        self.user_biases = ZeroEmbedding(num_users, 1, sparse=sparse)
        self.item_biases = ZeroEmbedding(num_items, 1, sparse=sparse)

    def forward(self, user_ids: Tensor, item_ids: Tensor) -> Tensor:
        """Score pairs of a user and an item.

        Args:
            user_ids: int64 tensor of shape (B,).
            item_ids: int64 tensor of shape (B,).

        Returns:
            float tensor of shape (B,).
        """
        if item_ids.device.type == ONE_KERNEL:
            return self.score_candidates(user_ids, item_ids.unsqueeze(1)).squeeze(1)
        # Elsewhere, what a column more takes of views is a tenth of a small step.
        products = (self.user_vectors(user_ids) * self.item_vectors(item_ids)).sum(-1, keepdim=True)
        return (products + _as_rows(self.user_biases(user_ids)) + _as_rows(self.item_biases(item_ids))).squeeze(1)

    def score_candidates(self, user_ids: Tensor, item_ids: Tensor) -> Tensor:
        """Score several items per user, reading each table once: half the gradients of one call per column.

        Args:
            user_ids: int64 tensor of shape (B,).
            item_ids: int64 tensor of shape (B, C).

        Returns:
            float tensor of shape (B, C).
        """
        # Ids first: on the CPU, a look at every layer would take a hundredth of a small step.
        if user_ids.device.type == ONE_KERNEL and user_ids.shape == item_ids.shape[:1]:
            layers = self.user_embeddings, self.user_biases, self.item_embeddings, self.item_biases
            tables = _plain_tables(*layers)
            if len(tables) == len(layers):
                user_vectors, user_biases, item_vectors, item_biases = (table.weight for table in tables)
                sparse = tables[0].sparse
                return bilinear(user_vectors, user_biases, item_vectors, item_biases, user_ids, item_ids, sparse=sparse)
        users, candidates = item_ids.shape
        flat_items = item_ids.reshape(-1)
        user_vectors = self.user_vectors(user_ids).unsqueeze(1)  # [B, 1, D]
        item_vectors = self.item_vectors(flat_items).view(users, candidates, -1)  # [B, C, D]
        item_biases = self.item_biases(flat_items).view(users, candidates)
        return (user_vectors * item_vectors).sum(-1) + _as_rows(self.user_biases(user_ids)) + item_biases

    def user_vectors(self, user_ids: Tensor) -> Tensor:
        """Vectors (B, D) of users (B,), whatever the layer."""
        return _as_rows(self.user_embeddings(user_ids))

    def item_vectors(self, item_ids: Tensor) -> Tensor:
        """Vectors (B, D) of items (B,), whatever the layer."""
        return _as_rows(self.item_embeddings(item_ids))


def _as_rows(vectors: Tensor) -> Tensor:
    """Make vectors (B, .., D) two-dimensional; what is so already costs autograd no further step."""
    return vectors if vectors.ndim == 2 else vectors.reshape(len(vectors), -1)


def _plain_tables(*layers: nn.Module) -> list[nn.Embedding]:
    """Those of the layers that are float32 tables on a GPU and nothing but that, as sparse as the first of them."""
    if hooks.on_all_modules():
        return []
    tables = [
        layer
        for layer in layers
        if isinstance(layer, nn.Embedding)
        and layer.weight.device.type == ONE_KERNEL
        and type(layer) in TABLES
        and (layer.padding_idx, layer.max_norm, layer.scale_grad_by_freq) == (None, None, False)
        and not any(getattr(layer, name) for name in hooks.OF_MODULES)
        and layer.weight.dtype == torch.float32
        and layer.weight.is_contiguous()
    ]
    return [table for table in tables if table.sparse == tables[0].sparse]
