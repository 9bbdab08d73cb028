"""Embedding layers: initial values that matrix factorization wants, and tables smaller than their number of ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spotfast import validation
from spotfast.hashing import murmurhash3_32

# Seeds of the hash functions, in this order: Spotlight's, so that its trained tables keep their meaning.
SEEDS = (
    *(179424941, 179425457, 179425907, 179426369, 179424977, 179425517, 179425943, 179426407),
    *(179424989, 179425529, 179425993, 179426447, 179425003, 179425537, 179426003, 179426453),
    *(179425019, 179425559, 179426029, 179426491, 179425027, 179425579, 179426081, 179426549),
)


class ScaledEmbedding(nn.Embedding):
    """Embedding whose rows start as N(0, 1 / embedding_dim), that is with standard deviation 1 / embedding_dim.

    Arguments as in `torch.nn.Embedding`; the padding row, if any, starts as zeros.
    """

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        nn.init.normal_(self.weight, 0.0, 1.0 / self.embedding_dim)
        self._fill_padding_idx_with_zero()


class ScaledEmbeddingBag(nn.EmbeddingBag):
    """EmbeddingBag whose rows start as those of `ScaledEmbedding`.

    Arguments as in `torch.nn.EmbeddingBag`; the padding row, if any, starts as zeros.
    """

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        nn.init.normal_(self.weight, 0.0, 1.0 / self.embedding_dim)
        self._fill_padding_idx_with_zero()


class ZeroEmbedding(nn.Embedding):
    """Embedding that starts as zeros: biases. Arguments as in `torch.nn.Embedding`."""

    def reset_parameters(self) -> None:
        """Set all values to zero."""
        nn.init.zeros_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Look up values (..., embedding_dim) of ids (...), as `torch.nn.Embedding` does."""
        weight = self.weight
        special = self.sparse or self.scale_grad_by_freq or self.max_norm is not None
        if special or self.embedding_dim != 1 or weight.device.type != "cpu":
            return super().forward(input)
        # On the CPU, the gradient of a column takes a twentieth of the time of torch's way for rows. (On a GPU,
        # it would be summed in any order.)
        values = weight.squeeze(1).index_select(0, input.flatten()).view(*input.shape, 1)
        if self.padding_idx is None:
            return values
        return torch.where(input.eq(self.padding_idx).unsqueeze(-1), values.detach(), values)


TABLES = (nn.Embedding, ScaledEmbedding, ZeroEmbedding)  # layers that are nothing but a table, a row per id


class BloomEmbedding(nn.Module):
    """Embedding of many ids in a small table: the vector of an id is the sum of the rows that its hashes name.

    Ids share rows, but few of them share all, much as in a Bloom filter (Serrà and Karatzoglou, "Getting deep
    recommenders fit", 2017):

        vector(id) = sum over h of embeddings.weight[murmurhash3_32(id, seed=SEEDS[h]) % m]

    with the hash signed and m = int(compression_ratio * num_embeddings).

    The padding id gives the zero vector and passes no gradient, and that is all: no row of the table is set aside for
    it, and row 0 is a row like any other for the ids that hash to it. `BilinearNet` has no padding and sets
    `padding_idx` of a layer passed to it to None; the sequence networks see a zero vector for padding in any case.

    Args:
        num_embeddings: ids are in [0, num_embeddings).
        embedding_dim: the length D of the vectors.
        compression_ratio: rows of the table per id, above 0.
        num_hash_functions: rows per vector, between 1 and 24.
        bag: sum the rows in a `ScaledEmbeddingBag`, without a tensor of all of them. The same results within rounding.
        padding_idx: the padding id, or None.

    Attributes:
        embeddings: the table, a `ScaledEmbedding` or `ScaledEmbeddingBag` of m rows.
        hashes: int32 buffer of shape (num_embeddings, num_hash_functions), the rows of each id. int32, for at four
            bytes it is half the size, in memory and in saved models: for 10 million ids and 4 hashes 160 MB. It is
            part of the state; states without it, as Spotlight's, load all the same.
        padding_idx: the padding id, or None. May be set.

    Raises:
        ValueError, TypeError: for a value out of range, or a ratio that leaves no row.

    Example:
        >>> layer = BloomEmbedding(1000, 8, compression_ratio=0.1)
        >>> layer.embeddings.weight.shape
        torch.Size([100, 8])
        >>> layer(torch.tensor([[0, 5, 7]])).shape
        torch.Size([1, 3, 8])
        >>> layer(torch.tensor([0])).abs().sum().item()
        0.0
    """

    hashes: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        compression_ratio: float = 0.2,
        num_hash_functions: int = 4,
        bag: bool = False,
        padding_idx: int | None = 0,
    ) -> None:
        super().__init__()
        self.num_embeddings = validation.integer("num_embeddings", num_embeddings, 1, validation.MAX_ID)
        self.embedding_dim = validation.integer("embedding_dim", embedding_dim, 1, validation.MAX_ID)
        self.compression_ratio = validation.real("compression_ratio", compression_ratio, 0.0, exclude_low=True)
        self.num_hash_functions = validation.integer("num_hash_functions", num_hash_functions, 1, len(SEEDS))
        self.bag = validation.flag("bag", bag)
        if padding_idx is not None:
            padding_idx = validation.integer("padding_idx", padding_idx, 0, self.num_embeddings - 1)
        self.padding_idx = padding_idx
        rows = int(self.compression_ratio * self.num_embeddings)
        if not 1 <= rows <= validation.MAX_ID:
            raise ValueError(
                f"compression_ratio must leave between 1 and {validation.MAX_ID} rows: "
                f"int({compression_ratio!r} * {num_embeddings}) is {rows}"
            )
        self.compressed_num_embeddings = rows
        self.embeddings: nn.Module = (
            ScaledEmbeddingBag(rows, embedding_dim, mode="sum") if self.bag else ScaledEmbedding(rows, embedding_dim)
        )
        device = next(self.embeddings.parameters()).device
        self.register_buffer("hashes", _hash_table(self.num_embeddings, self.num_hash_functions, rows).to(device))

    def forward(self, ids: Tensor) -> Tensor:
        """Look up vectors.

        Args:
            ids: int64 or int32 tensor of shape (B,), (B, L) or with more dimensions.

        Returns:
            float tensor of shape (B, 1, D) for ids of shape (B,), else (..., D).

        Raises:
            IndexError: for ids that are negative or too high (on the CPU).
        """
        if ids.dim() == 1:
            ids = ids.unsqueeze(1)
        try:
            # int64, for not every kernel behind a lookup takes int32 (sparse gradients do not).
            rows = self.hashes.index_select(0, ids.reshape(-1)).long()  # [ids, H]
        except IndexError:
            low, high = ids.min(), ids.max()
            raise IndexError(f"ids must lie in [0, {self.num_embeddings}), got {low} to {high}") from None
        vectors = self.embeddings(rows) if self.bag else self.embeddings(rows).sum(1)
        vectors = vectors.view(*ids.shape, self.embedding_dim)
        if self.padding_idx is None:
            return vectors
        return vectors.masked_fill(ids.eq(self.padding_idx).unsqueeze(-1), 0.0)

    def extra_repr(self) -> str:
        """Return the arguments, for `repr`."""
        return (
            f"{self.num_embeddings}, {self.embedding_dim}, compression_ratio={self.compression_ratio}, "
            f"num_hash_functions={self.num_hash_functions}, bag={self.bag}, padding_idx={self.padding_idx}"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # torch hands over its own copy of the state: the caller's stays as it is.
        state_dict.setdefault(f"{prefix}hashes", self.hashes)
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_layer(name: str, layer: Any) -> nn.Module:
    """Return a layer that was passed to a network as the argument `name`; raise TypeError if it is none."""
    if not isinstance(layer, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {layer!r} of type {type(layer).__name__}")
    return layer


def vector_length(layer: nn.Module) -> int | None:
    """Return the length of the vectors that a layer gives; None for other layers than ours, which may do anything."""
    if isinstance(layer, nn.Embedding | BloomEmbedding) and type(layer) in (*TABLES, BloomEmbedding):
        return layer.embedding_dim
    return None


def _hash_table(num_embeddings: int, num_hash_functions: int, rows: int) -> Tensor:
    """Rows of each id: int32 tensor of shape (num_embeddings, num_hash_functions)."""
    ids = np.arange(num_embeddings, dtype=np.int32)
    table = np.empty((num_embeddings, num_hash_functions), np.int32)
    for column, seed in enumerate(SEEDS[:num_hash_functions]):
        # The remainder takes the divisor's sign: rows of negative hashes are not negative.
        np.remainder(murmurhash3_32(ids, seed).view(np.int32), np.int32(rows), out=table[:, column])
    return torch.from_numpy(table)
