"""Sequence models for implicit feedback: which item comes next, given those before it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from spotfast import device_memory, recommendation, validation
from spotfast.arguments import Argument
from spotfast.model import MOST_NEGATIVES, Model, OptimizerFunction, check_tables
from spotfast.optim import DeferredAdam
from spotfast.predicted import flat_ids, fresh_array
from spotfast.recommendation.queries import PredictedQueries, Queries
from spotfast.recommendation.similarity import most_similar, table_of
from spotfast.seeding import RandomStateLike
from spotfast.sequence.batch_loss import make_batch_loss
from spotfast.sequence.engine import PoolingEngine
from spotfast.sequence.gradients import plain_tables, sparse_where_faster
from spotfast.sequence.queries import FIRST_ITEM, SequenceQueries, item_lookup
from spotfast.sequence.representations import CNNNet, LSTMNet, MixtureLSTMNet, PoolNet, SequenceNet
from spotfast.sequence.scoring import Scorer, make_scorer
from spotfast.training.autograd import CHUNK_POSITIONS, AutogradEngine
from spotfast.training.divergence import from_finite_parameters
from spotfast.training.loop import Engine, train
from spotfast.training.recognition import NotRecognisedError
from spotfast.training.sequence import Sequences, SequenceTask, check_sequences

NETWORKS: dict[str, type[SequenceNet]] = {
    "pooling": PoolNet,
    "cnn": CNNNet,
    "lstm": LSTMNet,
    "mixture": MixtureLSTMNet,
}
CHECKED_AT_ONCE = 1 << 16  # sequences


class ImplicitSequenceModel(Model):
    """A network over sequences of items, trained to score the item that comes next above sampled negatives.

    Item 0 is padding: it is never drawn as a negative, the loss leaves it out, and it is predicted as -inf.

    Args:
        loss: "pointwise", "bpr", "hinge" or "adaptive_hinge" (see `spotfast.losses`).
        representation: "pooling", "cnn", "lstm" or "mixture" (see `spotfast.sequence.representations`); or a module
            with `user_representation(sequences (B, L)) -> (states (B, ...), final (B, ...))` and
            `forward(states, targets (B, L)) -> scores (B, L)`. Adaptive hinge calls `forward` with
            `states.repeat(n, 1, ...)` and negatives (n B, L), `predict` with final states in place of `states` and
            items (I, 1).
        embedding_dim: the length of item vectors and states, at least 1.
        n_iter: epochs per call of `fit`.
        batch_size: sequences per optimizer step, at least 1.
        l2: L2 penalty (the default optimizer's `weight_decay`), at least 0.
        learning_rate: of the default optimizer, Adam.
        optimizer_func: a function of the network's parameters that returns a torch optimizer, called at the first
            `fit`. Default: dense Adam (`spotfast.optim.DeferredAdam` with built-in networks, which gives the same
            results and, with sparse gradients, does not touch every row at every step).
        use_cuda: train on the GPU; the same as `device="cuda"`.
        sparse: sparse gradients for the built-in tables, always. Otherwise `fit` uses them where they are faster, if
            the results are the same: in built-in networks, by name or passed in, with the default optimizer, without
            `l2`, in tables with more rows than 3 B L (2 + n), for batches of B sequences of L items and n
            negatives.
        random_state: None, an int, a numpy `RandomState` (advanced, not copied) or a `Generator`. The same seed gives
            the same model.
        num_negative_samples: negatives per step for the adaptive hinge loss; the others use one.
        device: the CPU or a CUDA device, as "cuda:0". Default: the CPU.

    Raises:
        ValueError, TypeError: naming the argument, the value and what is allowed.

    Example:
        >>> from spotfast.interactions import SequenceInteractions
        >>> model = ImplicitSequenceModel(loss="bpr", n_iter=2, random_state=0)
        >>> model.fit(SequenceInteractions([[0, 1, 2], [3, 1, 2]]))
        >>> model.predict([3, 1]).shape
        (4,)
    """

    LOSSES: ClassVar = ("pointwise", "bpr", "hinge", "adaptive_hinge")
    BUILT_IN: ClassVar = tuple(NETWORKS.values())

    _num_negative_samples: int
    num_negative_samples: Argument[int] = Argument(partial(validation.integer, low=1, high=MOST_NEGATIVES))
    representation: Argument[str | nn.Module | None] = Argument(
        read=lambda model: model._network or model._representation
    )

    def __init__(
        self,
        loss: str = "pointwise",
        representation: str | nn.Module = "pooling",
        embedding_dim: int = 32,
        n_iter: int = 10,
        batch_size: int = 256,
        l2: float = 0.0,
        learning_rate: float = 1e-2,
        optimizer_func: OptimizerFunction | None = None,
        use_cuda: bool = False,
        sparse: bool = False,
        random_state: RandomStateLike = None,
        num_negative_samples: int = 5,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            loss,
            embedding_dim,
            n_iter,
            batch_size,
            l2,
            learning_rate,
            optimizer_func,
            use_cuda,
            _module(representation),
            sparse,
            random_state,
            device,
        )
        self._network = representation if isinstance(representation, str) else None
        self.num_negative_samples = num_negative_samples

    def fit(self, interactions: Sequences, verbose: bool = False) -> None:
        """Train for `n_iter` epochs. Called again, training goes on: weights, optimizer and random stream continue.

        Args:
            interactions: `SequenceInteractions`, or windows that are cut while training. In later calls, ids must be
                below `num_items` of the first; the length may differ.
            verbose: show a progress bar, and print the loss of every epoch.

        Raises:
            ValueError: for invalid sequences, ids beyond the model or another `id_map` than that of the first fit (the
                model is unchanged); if there is no item but padding to draw as a negative; for a network with
                parameters that are not finite; and if the loss of an epoch is not finite: a first fit leaves the model
                unfitted then, later ones leave the network as it is.
            TypeError: for anything but sequences.
        """
        verbose = validation.flag("verbose", verbose)
        self._check_interactions(interactions)
        undone_on_error = self._net is None and self._representation is None
        with self._as_new_on_error():
            if self._net is None:
                self._initialize(None, interactions.num_items)
                self.id_map = getattr(interactions, "id_map", None)
            assert self._net is not None
            task = self._task(interactions, self._net)
            with (
                from_finite_parameters(self._net, undone_on_error),
                self._gradients(task, self._net),
                device_memory.explained_for(self, "training", device_memory.FOR_TRAINING),
            ):
                train(self._engine(task), self.history, self._n_iter, verbose)

    def predict(self, sequences: ArrayLike, item_ids: int | ArrayLike | None = None) -> NDArray[np.float32]:
        """Predict scores of the items that may come next.

        The bits of the score of a sequence and an item do not depend on what else is asked for. Sequences are taken
        as they are: nothing is padded or cut off.

        Args:
            sequences: item ids, oldest first: one sequence of shape (L,) or (1, L), or several, (N, L), with L at
                least 1. 0 is padding.
            item_ids: items, an array of shape (n,) or (n, 1). Default: all items, 0 .. num_items - 1.

        Returns:
            A new float32 array; padding, item 0, scores -inf:

            - one sequence: scores of all items, shape (num_items,), or of the given ones, (n,);
            - N > 1 sequences: shape (N, num_items) or (N, n).

        Raises:
            ValueError: if the model has not been fitted, for ids beyond it, for wrong shapes, and for predictions that
                are NaN, naming the sequence and the item.
            TypeError: for ids that are not integers.
        """
        scorer = self._scorer()
        assert self._num_items is not None
        rows, items = self._sequences(sequences), None
        with device_memory.explained_for(self, "the predictions", device_memory.FOR_PREDICTIONS):
            if item_ids is not None:
                items = self._tensor(flat_ids("item_ids", item_ids, self._num_items, "num_items"))
            scores = scorer.scores(scorer.states(self._tensor(np.atleast_2d(rows))), items)
            width = scores.shape[1]

            def name(at: int) -> str:
                item = at % width if items is None else int(items[at % width])
                return f"after sequence {at // width} for item {item}"

            return fresh_array(scores[0] if len(scores) == 1 else scores, name)

    def recommend(
        self,
        sequences: ArrayLike,
        k: int = 10,
        exclude: Any = None,
        item_ids: int | ArrayLike | None = None,
        *,
        memory_budget: int | str | None = None,
        verbose: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k items that are most likely to come next, best first; of equal predictions, the lower id first.

        Args:
            sequences: item ids, oldest first: one sequence of shape (L,), or several, (n, L). 0 is padding, which is
                never recommended.
            k: the length of the lists, at least 1.
            exclude: what never appears: None; "seen", the items of each sequence; or a sequence of n arrays of items.
            item_ids: the only items to choose from. Default: all.
            memory_budget: as in `spotfast.recommendation.recommend`.
            verbose: show a progress bar on standard error.

        Returns:
            (ids, scores), int64 and float32 of shape (n, k), or (k,) for one sequence of shape (L,): scores are those
            of `predict`. The id -1 and the score -inf where fewer than k items are left.

        Raises:
            ValueError, TypeError: as `predict` and `spotfast.recommendation.recommend`.
        """
        return recommendation.recommend(
            self, sequences, k, exclude, item_ids, memory_budget=memory_budget, verbose=verbose
        )

    def similar_items(
        self, item_ids: int | ArrayLike, k: int = 10, metric: str = "cosine"
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the items with the most similar vectors: as `similar_items` of the factorization models."""
        self._scorer()
        assert self._net is not None and self._num_items is not None
        with device_memory.explained_for(self, "the similar items", device_memory.FOR_SIMILAR):
            vectors = table_of(self._net, "item_vectors", item_lookup(self._net), self._num_items)
            return most_similar("item_ids", item_ids, vectors, k, metric, FIRST_ITEM)

    @property
    def _slots(self) -> int:
        return self._num_negative_samples if self._loss == "adaptive_hinge" else 1

    def _sequences(self, sequences: ArrayLike) -> NDArray[np.integer[Any]]:
        rows = validation.as_integers("sequences", sequences)
        if rows.ndim not in (1, 2) or rows.size == 0:
            raise ValueError(f"sequences must be of shape (L,) or (N, L) with L and N at least 1, got {rows.shape}")
        validation.check_id_range("sequences", rows, self._num_items, "num_items")
        return rows

    def _queries(self, sequences: ArrayLike) -> Queries:
        """Return the sequences as `spotfast.recommendation` takes them."""
        scorer = self._scorer()
        assert self._num_items is not None
        rows = self._sequences(sequences)
        alone, every = rows.ndim == 1, np.atleast_2d(rows).astype(np.int64)
        if type(self).predict is ImplicitSequenceModel.predict and "predict" not in vars(self):
            return SequenceQueries(scorer, every, alone, self._num_items, self._device)
        return PredictedQueries(every, alone, self.predict, FIRST_ITEM)

    def _settings(self) -> dict[str, Any]:
        settings = {**super()._settings(), "num_negative_samples": self._num_negative_samples}
        return settings if self._network is None else {**settings, "representation": self._network}

    def _make_net(self, num_users: None, num_items: int) -> nn.Module:
        assert self._network is not None
        return NETWORKS[self._network](num_items, self._embedding_dim, sparse=self._sparse)

    def _make_optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        if self._optimizer_func is not None or plain_tables(net) is None:
            return super()._make_optimizer(net)
        return DeferredAdam(net, lr=self._learning_rate, weight_decay=self._l2)

    def _gradients(self, task: SequenceTask, net: nn.Module) -> AbstractContextManager[None]:
        """Return the block to train in, where gradients are sparse if that is faster and changes no result."""
        if self._optimizer_func is not None or not isinstance(self._optimizer, DeferredAdam) or self._l2 > 0:
            return nullcontext()
        lookups = task.length * (2 + task.slots)  # of a sequence: its items twice, and negatives
        return sparse_where_faster(net, self._batch_size * lookups, self._device)

    def _task(self, interactions: Sequences, net: nn.Module) -> SequenceTask:
        assert self._stream_seed is not None and self._num_items is not None
        return SequenceTask(
            interactions,
            self._num_items,
            self._stream_seed,
            self._device,
            self._slots,
            self._loss,
            make_batch_loss(net, self._loss, self._device),
        )

    def _engine(self, task: SequenceTask) -> Engine:
        """Return the C++ engine if it trains this network with this optimizer; autograd for all others, and on GPUs."""
        assert self._net is not None and self._optimizer is not None
        if isinstance(self._net, PoolNet) and self._device.type == "cpu":
            try:
                return PoolingEngine(self._net, self._optimizer, task, self._batch_size)
            except NotRecognisedError as reason:
                self._warn_of_autograd(reason)
        positions_at_once = CHUNK_POSITIONS // (task.length * (1 + task.slots))
        return AutogradEngine(self._net, self._optimizer, task, self._batch_size, positions_at_once)

    def _scorer(self) -> Scorer:
        if self._net is None or self._num_items is None:
            raise ValueError("the model has not been fitted: call fit first")
        return make_scorer(self._net, self._num_items)

    def _check_interactions(self, interactions: Sequences) -> None:
        check_sequences("interactions", interactions)
        if len(interactions) == 0:
            raise ValueError("interactions must not be empty, got 0 sequences")
        self._check_id_map(getattr(interactions, "id_map", None))
        self._check_batches(len(interactions), interactions.max_sequence_length * (1 + self._slots))
        if self._num_items is None:
            if interactions.num_items < 2:
                raise ValueError(
                    f"num_items must be at least 2, padding and an item to draw as a negative, "
                    f"got {interactions.num_items}"
                )
            self._check_tables(interactions.num_items)
        elif interactions.num_items > self._num_items and _largest_id(interactions) >= self._num_items:
            raise ValueError(
                f"sequences must hold items below {self._num_items}, the size of the model since its first fit, "
                f"got {_largest_id(interactions)}. To leave room for more, declare num_items of the first interactions"
            )

    def _check_tables(self, num_items: int) -> None:
        """Raise if a built-in network that was passed in has tables too small for the data."""
        net = self._representation
        if not isinstance(net, SequenceNet):
            return
        check_tables("num_items", (net.item_embeddings, net.item_biases), num_items)


def _module(representation: Any) -> nn.Module | None:
    """Return the module that was passed in, or None for a name."""
    if isinstance(representation, str):
        validation.choice("representation", representation, tuple(NETWORKS))
        return None
    if not isinstance(representation, nn.Module) or not hasattr(representation, "user_representation"):
        raise TypeError(
            f"representation must be one of {', '.join(map(repr, NETWORKS))} or a torch.nn.Module with a method "
            f"user_representation, got {representation!r}"
        )
    return representation


def _largest_id(sequences: Sequences) -> int:
    starts = range(0, len(sequences), CHECKED_AT_ONCE)
    blocks = (np.arange(start, min(start + CHECKED_AT_ONCE, len(sequences))) for start in starts)
    return max(int(sequences.rows(block).max()) for block in blocks)
