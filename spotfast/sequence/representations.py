"""Networks that represent users by what they interacted with so far, and score items for them.

Sequences are padded with item 0 on the left. A network sees the zero vector, then the vectors of the L items, so that
it has L + 1 outputs: output t represents the user before item t, and the last one is for predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spotfast import validation
from spotfast.layers import BloomEmbedding, ScaledEmbedding, ZeroEmbedding, check_layer
from spotfast.ops.mixture_scores import mixture_scores
from spotfast.sequence_interactions import PADDING_IDX


class SequenceNet(nn.Module):
    """Base of the sequence networks: item vectors and biases, shared by the sequences and the scored items.

    Args:
        num_items: rows of the item tables, the padding item 0 included.
        embedding_dim: the length D of the vectors. A `BloomEmbedding` or `torch.nn.Embedding` passed in has its own.
        item_embedding_layer: a module from ids (B, L) to vectors (B, L, D), in place of a `ScaledEmbedding`. The
            vectors that a `BloomEmbedding` gives for padding count as zero, whatever its `padding_idx`.
        sparse: gradients of the built-in tables are sparse.

    Attributes:
        item_embeddings: the layer of the vectors.
        item_biases: `ZeroEmbedding` of one column.

    Raises:
        ValueError, TypeError: naming the argument, the value and what is allowed.
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 32,
        item_embedding_layer: nn.Module | None = None,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        validation.integer("num_items", num_items, 1)
        sparse = validation.flag("sparse", sparse)
        self.embedding_dim = validation.integer("embedding_dim", embedding_dim, 1, validation.MAX_ID)
        if item_embedding_layer is None:
            item_embedding_layer = ScaledEmbedding(num_items, embedding_dim, padding_idx=PADDING_IDX, sparse=sparse)
        elif isinstance(item_embedding_layer, nn.Embedding | BloomEmbedding):
            self.embedding_dim = item_embedding_layer.embedding_dim
        self.item_embeddings = check_layer("item_embedding_layer", item_embedding_layer)
        self.item_biases = ZeroEmbedding(num_items, 1, padding_idx=PADDING_IDX, sparse=sparse)

    def user_representation(self, item_sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Represent users before each of their items, and after the last one.

        Args:
            item_sequences: int64 tensor of shape (B, L), padded with 0 on the left.

        Returns:
            `states` of shape (B, D, L) and `final` of shape (B, D). For mixtures (B, 2M, D, L) and (B, 2M, D, 1).
        """
        outputs = self._outputs(item_sequences)
        return outputs[..., :-1], outputs[..., -1]

    def forward(self, user_representations: Tensor, targets: Tensor) -> Tensor:
        """Score one item per user and time step.

        Args:
            user_representations: `states` for L steps; or `final`, for one.
            targets: int64 tensor of shape (B, L).

        Returns:
            float tensor of shape (B, L).
        """
        return self.score_candidates(user_representations, targets.unsqueeze(-1)).squeeze(-1)

    def score_candidates(self, user_representations: Tensor, candidates: Tensor) -> Tensor:
        """Score several items per user and time step: one lookup for all, and no copies of the states.

        Args:
            user_representations: `states` for L steps; or `final`, for one.
            candidates: int64 tensor of shape (B, L, C).

        Returns:
            float tensor of shape (B, L, C): column c is `forward(user_representations, candidates[:, :, c])`.
        """
        ids = candidates.flatten(1)  # [B, L C]: every layer takes two dimensions
        vectors = self.item_embeddings(ids).reshape(*candidates.shape, -1)  # [B, L, C, D]
        return self._affinity(user_representations, vectors) + self.item_biases(ids).view(candidates.shape)

    def score_items(self, final: Tensor, item_ids: Tensor) -> Tensor:
        """Score the same items for every user, as one product of matrices.

        Args:
            final: what `user_representation` gives second: shape (N, D), for mixtures (N, 2M, D, 1).
            item_ids: int64 tensor of shape (I,).

        Returns:
            float tensor of shape (N, I). Mixtures need memory for 2M times as many numbers.
        """
        vectors = self.item_embeddings(item_ids.unsqueeze(0)).squeeze(0)  # [I, D]
        return self._item_affinity(final, vectors) + self.item_biases(item_ids).view(1, -1)

    def _outputs(self, item_sequences: Tensor) -> Tensor:
        """Map sequences (B, L) to the L + 1 outputs of the network, time last: (B, D, L + 1)."""
        raise NotImplementedError

    def _affinity(self, user_representations: Tensor, vectors: Tensor) -> Tensor:
        """Scores (B, L, C) of items by their vectors (B, L, C, D), without biases."""
        if user_representations.dim() == 2:  # `final`
            user_representations = user_representations.unsqueeze(-1)
        # Not a batched matrix product: with one column, it is slower than this.
        return (vectors * user_representations.transpose(1, 2).unsqueeze(2)).sum(-1)

    def _item_affinity(self, final: Tensor, vectors: Tensor) -> Tensor:
        """Scores (N, I) of items by their vectors (I, D), without biases."""
        return final @ vectors.T

    def _inputs(self, item_sequences: Tensor) -> Tensor:
        """Return the zero vector, then the vectors of the items: (B, L + 1, D)."""
        vectors = self.item_embeddings(item_sequences)
        if isinstance(self.item_embeddings, BloomEmbedding) and self.item_embeddings.padding_idx != PADDING_IDX:
            vectors = vectors.masked_fill(item_sequences.eq(PADDING_IDX).unsqueeze(-1), 0.0)
        return F.pad(vectors, (0, 0, 1, 0))


class PoolNet(SequenceNet):
    """Users are the sum of the vectors of their items, over the number of these items plus one.

    After "Deep neural networks for YouTube recommendations" (Covington et al. 2016), without the deep network.
    Arguments as in `SequenceNet`.

    Example:
        >>> net = PoolNet(num_items=10, embedding_dim=4)
        >>> states, final = net.user_representation(torch.tensor([[0, 3, 5]]))
        >>> net(states, torch.tensor([[3, 5, 7]])).shape
        torch.Size([1, 3])
    """

    def _outputs(self, item_sequences: Tensor) -> Tensor:
        inputs = self._inputs(item_sequences)
        items = F.pad(item_sequences.ne(PADDING_IDX), (1, 0)).cumsum(1)  # [B, L + 1]
        return (inputs.cumsum(1) / (items + 1).unsqueeze(-1)).transpose(1, 2)


class LSTMNet(SequenceNet):
    """Users are the outputs of an LSTM that reads their items (Hidasi et al. 2015).

    Padding is read like any item: as zero vectors, that are not skipped. Arguments as in `SequenceNet`.

    Attributes:
        lstm: a `torch.nn.LSTM` of one layer.

    Example:
        >>> net = LSTMNet(num_items=10, embedding_dim=4)
        >>> states, final = net.user_representation(torch.tensor([[0, 3, 5]]))
        >>> net.score_items(final, torch.arange(1, 10)).shape
        torch.Size([1, 9])
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 32,
        item_embedding_layer: nn.Module | None = None,
        sparse: bool = False,
    ) -> None:
        super().__init__(num_items, embedding_dim, item_embedding_layer, sparse)
        self.lstm = nn.LSTM(self.embedding_dim, self.embedding_dim, batch_first=True)

    def _outputs(self, item_sequences: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(self._inputs(item_sequences))[0]
        return outputs.transpose(1, 2)


class MixtureLSTMNet(LSTMNet):
    """Users are several tastes, and every item is scored by the tastes that attend to it (Kula 2017).

    The outputs of an LSTM are projected to M tastes u and M attentions a. The score of an item with vector e is

        sum over m of softmax over m (<a_m, e>) * <u_m, e>, plus the item's bias.

    Args:
        num_items, embedding_dim, item_embedding_layer, sparse: as in `SequenceNet`.
        num_mixtures: the number M of tastes, at least 1.

    Attributes:
        projection: a `torch.nn.Conv1d` of width one, from D to 2 M D channels.

    Example:
        >>> net = MixtureLSTMNet(num_items=10, embedding_dim=4, num_mixtures=3)
        >>> states, final = net.user_representation(torch.tensor([[0, 3, 5]]))
        >>> states.shape
        torch.Size([1, 6, 4, 3])
        >>> net.score_candidates(states, torch.ones(1, 3, 5, dtype=torch.int64)).shape
        torch.Size([1, 3, 5])
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 32,
        num_mixtures: int = 4,
        item_embedding_layer: nn.Module | None = None,
        sparse: bool = False,
    ) -> None:
        super().__init__(num_items, embedding_dim, item_embedding_layer, sparse)
        self.num_mixtures = validation.integer("num_mixtures", num_mixtures, 1)
        self.projection = nn.Conv1d(self.embedding_dim, 2 * self.num_mixtures * self.embedding_dim, 1)

    def user_representation(self, item_sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Represent users as in `SequenceNet`: `states` (B, 2M, D, L), tastes first, and `final` (B, 2M, D, 1)."""
        states, final = super().user_representation(item_sequences)
        return self._project(states), self._project(final.unsqueeze(-1))

    def _project(self, outputs: Tensor) -> Tensor:
        """Map outputs (B, D, L) of the LSTM to tastes and attentions (B, 2M, D, L)."""
        # The convolution as a product of matrices, of one block of memory: its result lies as `_affinity` reads it, and
        # the bias is added on the way.
        projected = F.linear(
            outputs.transpose(1, 2).contiguous(), self.projection.weight.squeeze(-1), self.projection.bias
        )
        return projected.view(*projected.shape[:2], 2 * self.num_mixtures, self.embedding_dim).permute(0, 2, 3, 1)

    def _affinity(self, user_representations: Tensor, vectors: Tensor) -> Tensor:
        return mixture_scores(user_representations.permute(0, 3, 1, 2), vectors)  # states as [B, L, 2M, D]

    def _item_affinity(self, final: Tensor, vectors: Tensor) -> Tensor:
        products = final.reshape(-1, self.embedding_dim) @ vectors.T  # [N 2M, I]
        return self._mix(products.view(len(final), 2 * self.num_mixtures, len(vectors)))

    def _mix(self, products: Tensor) -> Tensor:
        """Map products (..., 2M, C) of tastes and attentions with items to scores (..., C)."""
        tastes, attentions = products.split(self.num_mixtures, dim=-2)
        return (attentions.softmax(-2) * tastes).sum(-2)


class CNNNet(SequenceNet):
    """Users are the outputs of causal, dilated convolutions over their items (van den Oord et al. 2016).

    Args:
        num_items, embedding_dim, sparse, item_embedding_layer: as in `SequenceNet`.
        kernel_width: the steps that a kernel sees, at least 1; one number, or one per layer.
        dilation: the distance between these steps, at least 1; one number, or one per layer.
        num_layers: the number of layers, at least 1.
        nonlinearity: "tanh" or "relu", after each convolution.
        residual_connections: add the input of each layer to its output.
        benchmark: accepted for Spotlight's sake, without effect: there it sets `torch.backends.cudnn.benchmark`, which
            concerns the whole process.

    Attributes:
        cnn_0, cnn_1, ...: the layers, `torch.nn.Conv2d` of kernels (width, 1).

    Example:
        >>> net = CNNNet(num_items=10, embedding_dim=4, kernel_width=(3, 2), dilation=(1, 2), num_layers=2)
        >>> net.user_representation(torch.tensor([[0, 3, 5]]))[0].shape
        torch.Size([1, 4, 3])
    """

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 32,
        kernel_width: int | Sequence[int] = 3,
        dilation: int | Sequence[int] = 1,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        residual_connections: bool = True,
        sparse: bool = False,
        benchmark: bool = True,
        item_embedding_layer: nn.Module | None = None,
    ) -> None:
        super().__init__(num_items, embedding_dim, item_embedding_layer, sparse)
        self.num_layers = validation.integer("num_layers", num_layers, 1)
        self.kernel_width = _per_layer("kernel_width", kernel_width, self.num_layers)
        self.dilation = _per_layer("dilation", dilation, self.num_layers)
        self.nonlinearity = validation.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        self.residual_connections = validation.flag("residual_connections", residual_connections)
        validation.flag("benchmark", benchmark)
        channels = self.embedding_dim
        for number, (width, distance) in enumerate(zip(self.kernel_width, self.dilation, strict=True)):
            self.add_module(f"cnn_{number}", nn.Conv2d(channels, channels, (width, 1), dilation=(distance, 1)))

    def _outputs(self, item_sequences: Tensor) -> Tensor:
        activation = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        outputs = self._inputs(item_sequences).transpose(1, 2).unsqueeze(-1)  # [B, D, L + 1, 1]
        for number, (width, distance) in enumerate(zip(self.kernel_width, self.dilation, strict=True)):
            layer = self.get_submodule(f"cnn_{number}")
            # Steps before the first one: an output sees its own step and earlier ones.
            convolved = activation(layer(F.pad(outputs, (0, 0, (width - 1) * distance, 0))))
            outputs = convolved + outputs if self.residual_connections else convolved
        return outputs.squeeze(-1)


def _per_layer(name: str, value: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        return (validation.integer(name, value, 1),) * num_layers
    if len(value) != num_layers:
        raise ValueError(f"{name} must be one number, or one per layer ({num_layers}), got {value!r}")
    return tuple(validation.integer(name, number, 1) for number in value)
