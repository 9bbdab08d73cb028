"""What the implicit and the explicit factorization model share: checks, fitting, prediction."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from spotfast import device_memory, recommendation, validation
from spotfast.factorization.engine import FactorizationEngine
from spotfast.factorization.queries import FactorizationQueries
from spotfast.factorization.representations import BilinearNet
from spotfast.factorization.scoring import Link, Scorer, make_scorer
from spotfast.interactions import Interactions
from spotfast.model import Model, check_tables
from spotfast.predicted import flat_ids, fresh_array
from spotfast.recommendation.queries import PredictedQueries, Queries
from spotfast.recommendation.similarity import most_similar, table_of
from spotfast.training.autograd import AutogradEngine
from spotfast.training.divergence import from_finite_parameters
from spotfast.training.factorization import ExplicitTask, ImplicitTask
from spotfast.training.loop import Engine, train
from spotfast.training.recognition import NotRecognisedError

NOT_FITTED = "the model has not been fitted: call fit first"


class FactorizationModel(Model):
    """Base of the factorization models."""

    BUILT_IN: ClassVar = (BilinearNet,)

    def fit(self, interactions: Interactions, verbose: bool = False) -> None:
        """Train for `n_iter` epochs. Called again, training goes on: weights, optimizer and random stream continue.

        Args:
            interactions: what to learn from. In later calls, ids must be within the sizes of the first.
            verbose: show a progress bar, and print the loss of every epoch.

        Raises:
            ValueError: for invalid interactions, ids beyond the model or another `id_map` than that of the first fit
                (the model is unchanged); for a network with parameters that are not finite; and if the loss of an
                epoch is not finite: a first fit leaves the model unfitted then, later ones leave the network as it is.
            TypeError: for anything but `Interactions`.
        """
        verbose = validation.flag("verbose", verbose)
        self._check_interactions(interactions)
        undone_on_error = self._net is None and self._representation is None
        with self._as_new_on_error():
            if self._net is None:
                self._initialize(interactions.num_users, interactions.num_items)
                self.id_map = interactions.id_map
            assert self._net is not None
            with (
                from_finite_parameters(self._net, undone_on_error),
                device_memory.explained_for(self, "training", device_memory.FOR_TRAINING),
            ):
                train(self._engine(self._task(interactions, self._net)), self.history, self._n_iter, verbose)

    def predict(self, user_ids: int | ArrayLike, item_ids: int | ArrayLike | None = None) -> NDArray[np.float32]:
        """Predict scores of users for items.

        With the built-in network, the bits of a pair's score do not depend on what else is asked for.

        Args:
            user_ids: one user, or an array of users.
            item_ids: items, an array of shape (n,) or (n, 1). Default: all items.

        Returns:
            A new float32 array:

            - one user, no items: scores of all items, shape (num_items,);
            - one user, n items: shape (n,);
            - n users, n items: scores of the n pairs, shape (n,);
            - n > 1 users, no items: shape (n, num_items).

            Item 0 scores -inf in models with an `id_map`: it is padding.

        Raises:
            ValueError: if the model has not been fitted, for ids beyond it, for different numbers of users and items,
                and for predictions that are NaN, naming the user and the item.
            TypeError: for ids that are not integers.
        """
        with device_memory.explained_for(self, "the predictions", device_memory.FOR_PREDICTIONS):
            return self._predictions(user_ids, item_ids)

    def recommend(
        self,
        user_ids: int | ArrayLike,
        k: int = 10,
        exclude: Any = None,
        item_ids: int | ArrayLike | None = None,
        *,
        memory_budget: int | str | None = None,
        verbose: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the k items with the highest predictions, best first; of equal predictions, the lower id first.

        `spotfast.recommendation` has the same block by block, for results that are too large to hold.

        Args:
            user_ids: one user, or an array of shape (n,) or (n, 1).
            k: the length of the lists, at least 1.
            exclude: what never appears: None; `Interactions`, or a scipy sparse matrix (num_users, num_items), for
                each user's items in it (the training set, for example); or a sequence of n arrays of items.
            item_ids: the only items to choose from, in any order; repetitions count once. Default: all.
            memory_budget: bytes, or a text as "512MB", for the result and what it takes to make it. Default: the
                result and about 100 MB.
            verbose: show a progress bar on standard error.

        Returns:
            (ids, scores), int64 and float32 of shape (n, k), or (k,) for one user: scores are those of `predict`. The
            id -1 and the score -inf where fewer than k items are left; `id_map.items.to_raw(ids)` has None there.
            Padding (item 0 in models with an `id_map`) is never recommended.

        Raises:
            ValueError: if the model has not been fitted, for ids beyond it, a k below 1, a budget that is too small,
                and for predictions that are NaN, naming the user.
            TypeError: for ids that are not integers, and for any other kind of `exclude`.
        """
        return recommendation.recommend(
            self, user_ids, k, exclude, item_ids, memory_budget=memory_budget, verbose=verbose
        )

    def similar_items(
        self, item_ids: int | ArrayLike, k: int = 10, metric: str = "cosine"
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the items with the vectors most similar to those of some items, themselves left out.

        Args:
            item_ids: one item, or an array of shape (n,).
            k: the length of the lists, at least 1.
            metric: "cosine" or "dot", the product of the vectors; biases have no part in it.

        Returns:
            (ids, similarities), int64 and float32 of shape (n, k), or (k,) for one item; best first, of equal
            similarities the lower id first. -1 and -inf where fewer than k items are left.

        Raises:
            ValueError: if the model has not been fitted, for ids beyond it and padding, a k below 1, another metric.
            TypeError: for ids that are not integers, and for networks without a method `item_vectors`.
        """
        with device_memory.explained_for(self, "the similar items", device_memory.FOR_SIMILAR):
            vectors = self._vectors("item_vectors", self._num_items)
            return most_similar("item_ids", item_ids, vectors, k, metric, self._first_item)

    def similar_users(
        self, user_ids: int | ArrayLike, k: int = 10, metric: str = "cosine"
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the users with the vectors most similar to those of some users: as `similar_items`."""
        with device_memory.explained_for(self, "the similar users", device_memory.FOR_SIMILAR):
            return most_similar("user_ids", user_ids, self._vectors("user_vectors", self._num_users), k, metric)

    def _predictions(self, user_ids: int | ArrayLike, item_ids: int | ArrayLike | None) -> NDArray[np.float32]:
        """Return what `predict` does; errors of torch's allocator are its own."""
        scorer = self._scorer()
        assert self._num_users is not None and self._num_items is not None
        users = flat_ids("user_ids", user_ids, self._num_users, "num_users")
        if item_ids is None:
            scores = scorer.matrix(self._tensor(users))
            width = self._num_items
            return fresh_array(
                scores[0] if len(users) == 1 else scores,
                lambda at: f"of user {users[at // width]} for item {at % width}",
            )
        items = flat_ids("item_ids", item_ids, self._num_items, "num_items")
        if len(users) == 1:
            users = np.repeat(users, len(items))
        if len(users) != len(items):
            raise ValueError(f"user_ids must be one user, or one per item ({len(items)}), got {len(users)}")
        scores = scorer.pairs(self._tensor(users), self._tensor(items))
        return fresh_array(scores, lambda at: f"of user {users[at]} for item {items[at]}")

    @property
    def _link(self) -> Link | None:
        """The function from the network's scores to predictions; None if they are the same."""
        return None

    def _task(self, interactions: Interactions, net: nn.Module) -> ExplicitTask | ImplicitTask:
        """Return what to train on."""
        raise NotImplementedError

    def _engine(self, task: ExplicitTask | ImplicitTask) -> Engine:
        """Return the engine of the device if it trains this network with this optimizer; autograd for all others."""
        assert self._net is not None and self._optimizer is not None
        try:
            return FactorizationEngine(self._net, self._optimizer, task, self._batch_size)
        except NotRecognisedError as reason:
            self._warn_of_autograd(reason)
        return AutogradEngine(self._net, self._optimizer, task, self._batch_size)

    def _make_net(self, num_users: int, num_items: int) -> nn.Module:
        return BilinearNet(num_users, num_items, self._embedding_dim, sparse=self._sparse)

    def _scorer(self) -> Scorer:
        if self._net is None or self._num_items is None:
            raise ValueError(NOT_FITTED)
        return make_scorer(self._net, self._num_items, self._link, self._first_item)

    def _queries(self, user_ids: int | ArrayLike) -> Queries:
        """Return the users as `spotfast.recommendation` takes them."""
        scorer = self._scorer()
        assert self._num_users is not None and self._num_items is not None
        alone = np.ndim(user_ids) == 0
        users = flat_ids("user_ids", user_ids, self._num_users, "num_users").astype(np.int64)
        queries: Queries
        if type(self).predict is FactorizationModel.predict and "predict" not in vars(self):
            queries = FactorizationQueries(scorer, users, alone, self._num_items, self._first_item, self._device)
        else:
            queries = PredictedQueries(users, alone, self.predict, self._first_item)
        queries.id_map = self.id_map
        return queries

    def _vectors(self, name: str, size: int | None) -> Tensor:
        """Return the network's vectors of all items or users."""
        if self._net is None or size is None:
            raise ValueError(NOT_FITTED)
        return table_of(self._net, name, getattr(self._net, name, None), size)

    @property
    def _first_item(self) -> int:
        """Items below this one are padding: neither drawn as negatives nor recommended."""
        return 0 if self.id_map is None else self.id_map.items.first

    def _check_interactions(self, interactions: Interactions) -> None:
        if not isinstance(interactions, Interactions):
            raise TypeError(f"interactions must be Interactions, got {type(interactions).__name__}")
        interactions.check()
        if len(interactions) == 0:
            raise ValueError("interactions must not be empty, got 0 interactions")
        self._check_id_map(interactions.id_map)
        for name, ids, size in (
            ("user_ids", interactions.user_ids, self._num_users),
            ("item_ids", interactions.item_ids, self._num_items),
        ):
            if size is not None and ids.max() >= size:
                raise ValueError(
                    f"{name} must be below {size}, the size of the model since its first fit, got {ids.max()}. "
                    f"To leave room for more, declare num_users and num_items of the first interactions"
                )
        self._check_tables(interactions)

    def _check_tables(self, interactions: Interactions) -> None:
        """Raise if a representation that was passed in has tables too small for the data."""
        net = self._representation
        if self._net is not None or not isinstance(net, BilinearNet):
            return
        for name, tables, size in (
            ("num_users", (net.user_biases, net.user_embeddings), interactions.num_users),
            ("num_items", (net.item_biases, net.item_embeddings), interactions.num_items),
        ):
            check_tables(name, tables, size)
