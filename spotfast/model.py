"""What all models share: the constructor's arguments, initialisation, state, saving and loading."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spotfast import device_memory, saving, validation
from spotfast.arguments import Argument
from spotfast.device_memory import FOR_TABLES
from spotfast.id_map import IdMap
from spotfast.layers import TABLES, BloomEmbedding
from spotfast.memory import allocating
from spotfast.optim import DeferredAdam
from spotfast.seeding import RandomSource, RandomStateLike, as_random_state, draw_stream_seed, rewinder, torch_seed
from spotfast.training.divergence import DivergedError
from spotfast.training.gradient_kinds import check_gradients
from spotfast.training.history import History
from spotfast.training.optimizer_state import state_bytes
from spotfast.warnings import PerformanceWarning

MOST_SCORED = 2**31 - 1  # items in a batch: the engines count them in 32 bits
MOST_NEGATIVES = MOST_SCORED - 1
OptimizerFunction = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


class Model:
    """Base of the models. Arguments are documented by the subclasses.

    Attributes:
        n_iter, batch_size, l2, learning_rate: as the arguments of these names; set, they hold from the next `fit`.
        loss, embedding_dim, optimizer_func, representation, sparse, random_state, device, use_cuda: to read.
        history: the epochs so far.
        id_map: what the ids of users and items stand for: that of the interactions of the first `fit`, or None.
    """

    LOSSES: ClassVar[tuple[str, ...]]
    BUILT_IN: ClassVar[tuple[type[nn.Module], ...]]  # networks

    _n_iter: int
    _batch_size: int
    n_iter: Argument[int] = Argument(partial(validation.integer, low=0))
    batch_size: Argument[int] = Argument(partial(validation.integer, low=1))
    loss: Argument[str] = Argument()
    embedding_dim: Argument[int] = Argument()
    optimizer_func: Argument[OptimizerFunction | None] = Argument()
    representation: Argument[str | nn.Module | None] = Argument()
    sparse: Argument[bool] = Argument()
    random_state: Argument[RandomSource] = Argument()
    device: Argument[torch.device] = Argument(instead="call to(device)")
    use_cuda: Argument[bool] = Argument(instead="call to(device)")

    def __init__(
        self,
        loss: str,
        embedding_dim: int,
        n_iter: int,
        batch_size: int,
        l2: float,
        learning_rate: float,
        optimizer_func: OptimizerFunction | None,
        use_cuda: bool,
        representation: nn.Module | None,
        sparse: bool,
        random_state: RandomStateLike,
        device: torch.device | str | None,
    ) -> None:
        self._loss = validation.choice("loss", loss, self.LOSSES)
        self._embedding_dim = validation.integer("embedding_dim", embedding_dim, 1, validation.MAX_ID)
        self.n_iter = n_iter
        self.batch_size = batch_size
        self._l2 = validation.real("l2", l2, 0.0)
        self._learning_rate = validation.real("learning_rate", learning_rate, 0.0)
        if optimizer_func is not None and not callable(optimizer_func):
            raise TypeError(f"optimizer_func must be a function of the parameters, got {optimizer_func!r}")
        self._optimizer_func = optimizer_func
        self._device = _device(validation.flag("use_cuda", use_cuda), device)
        self._use_cuda = self._device.type == "cuda"
        if representation is not None and not isinstance(representation, nn.Module):
            raise TypeError(f"representation must be a torch.nn.Module, got {representation!r}")
        self._representation = representation
        self._sparse = validation.flag("sparse", sparse)
        self._random_state = as_random_state(random_state)

        self.history = History()
        self._net: nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._stream_seed: int | None = None
        self._num_users: int | None = None
        self._num_items: int | None = None
        self.id_map: IdMap | None = None

    def __repr__(self) -> str:
        state = "[uninitialised]" if self._net is None else repr(self._net)
        return f"<{type(self).__name__}: {state}>"

    @property
    def _initialized(self) -> bool:
        return self._net is not None

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step. Setting it changes the optimizer in use, too."""
        if self._optimizer is not None and "lr" in self._optimizer.param_groups[0]:
            return float(self._optimizer.param_groups[0]["lr"])
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = validation.real("learning_rate", value, 0.0)
        if self._optimizer is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = self._learning_rate

    @property
    def l2(self) -> float:
        """The L2 penalty of the next step. Setting it changes the default optimizer in use, too."""
        return self._l2

    @l2.setter
    def l2(self, value: float) -> None:
        if self._optimizer_func is not None:
            raise AttributeError(
                "l2 cannot be set: it is of the default optimizer, in place of which is optimizer_func"
            )
        self._l2 = validation.real("l2", value, 0.0)
        if self._optimizer is not None:
            for group in self._optimizer.param_groups:
                group["weight_decay"] = self._l2

    def to(self, device: torch.device | str) -> Self:
        """Move the network and what the optimizer keeps; training and prediction go on there.

        Args:
            device: a torch device such as "cpu" or "cuda:0".

        Returns:
            The model itself.

        Raises:
            ValueError, TypeError: if `device` is neither the CPU nor a CUDA device.
            RuntimeError: if torch does not see it, or it has too little memory (`spotfast.device_memory`); the model
                stays where it was.
        """
        chosen = _device(False, device)
        if self._net is not None and self._optimizer is not None:
            state = self._optimizer.state_dict()  # first: it brings deferred rows up to date
            kept = {"the optimizer's state": state_bytes(self._optimizer)[0]}
            device_memory.moved(self._net, chosen, kept)
            try:
                with device_memory.explained(chosen, "the optimizer's state", self._bytes_taken, FOR_TABLES):
                    self._optimizer.load_state_dict(state)  # torch's way to move a state to its parameters
            except Exception:
                self._net.to(self._device)
                self._optimizer.load_state_dict(state)
                raise
        self._device = chosen
        self._use_cuda = chosen.type == "cuda"
        return self

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one file: network, optimizer state, history, settings, raw ids. No pickle.

        The file is a safetensors file with the settings as JSON in its metadata. It is written whole or not at all.

        Args:
            path: the file; an existing one is replaced.

        Raises:
            FileNotFoundError, IsADirectoryError: if `path` is in no folder, or is one.
            ValueError: for an empty path, or if the model has not been fitted, or has raw ids of types that cannot be
                written down (`spotfast.id_saving.to_tensors` lists those that can).
        """
        saving.save(self, validation.file_path("path", path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        representation: nn.Module | None = None,
        optimizer_func: OptimizerFunction | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Read a model that `save` wrote. It predicts the same bits, and training goes on where it stopped.

        Args:
            path: the file.
            representation: a network of the same shape, needed if the model was made with one; its weights are
                replaced.
            optimizer_func: as in the constructor, needed if the model was made with one.
            device: where the model is to be. Default: the CPU.

        Raises:
            FileNotFoundError, IsADirectoryError: if `path` is no file.
            ValueError: for an empty path, or if the file is of another model class or damaged, or `representation` or
                `optimizer_func` is missing or does not fit.
        """
        file = validation.file_path("path", path)
        return saving.load(cls, file, representation, optimizer_func, device)

    def _settings(self) -> dict[str, Any]:
        """Return the constructor's arguments that can be written down."""
        return {
            "loss": self._loss,
            "embedding_dim": self._embedding_dim,
            "n_iter": self._n_iter,
            "batch_size": self._batch_size,
            "l2": self._l2,
            "learning_rate": self._learning_rate,
            "sparse": self._sparse,
        }

    def _make_net(self, num_users: Any, num_items: int) -> nn.Module:
        """Return the built-in network for these sizes; `num_users` is None in models that know no users."""
        raise NotImplementedError

    def _initialize(self, num_users: int | None, num_items: int) -> None:
        """Make the network and the optimizer, inside `_as_new_on_error`."""
        _require_device(f"device={str(self._device)!r}", self._device)
        self._num_users, self._num_items = num_users, num_items
        self._stream_seed = draw_stream_seed(self._random_state)
        net = self._representation
        if net is None:
            with self._naming_sizes(num_users, num_items), torch_seed(self._stream_seed):
                net = self._make_net(num_users, num_items)
        moments = 2 * sum(parameter.nbytes for parameter in net.parameters())
        further = {"Adam's moments": moments} if self._optimizer_func is None else {}
        self._net = device_memory.moved(net, self._device, further)
        self._optimizer = self._make_optimizer(self._net)

    def _naming_sizes(self, num_users: int | None, num_items: int) -> AbstractContextManager[None]:
        """Return the block to make the network in: where that takes too much memory, the error names the sizes."""
        sizes = {"num_users": num_users, "num_items": num_items, "embedding_dim": self._embedding_dim}
        named = ", ".join(f"{name}={size}" for name, size in sizes.items() if size is not None)
        rows = (num_users or 0) + num_items
        return allocating(f"{named}: the tables take", 4 * rows * (self._embedding_dim + 1))

    def _bytes_taken(self) -> dict[str, int]:
        """Return the size of the model."""
        assert self._net is not None and self._optimizer is not None
        state = state_bytes(self._optimizer)[0]
        return {"weights": device_memory.weight_bytes(self._net), "the optimizer's state": state}

    @contextmanager
    def _as_new_on_error(self) -> Iterator[None]:
        """If a model gets its network in the block and fails before an epoch is done, or diverges, undo `_initialize`.

        What was passed in is as before, too: the source of random numbers has not moved on, the module is where it was;
        but its weights keep the steps that were taken. Who interrupts training keeps what was trained.
        """
        if self._net is not None:
            yield
            return
        rewind, passed_in = rewinder(self._random_state), self._representation
        first = None if passed_in is None else next(chain(passed_in.parameters(), passed_in.buffers()), None)
        home = None if first is None else first.device
        try:
            yield
        except BaseException as error:
            failed = not self.history and (isinstance(error, Exception) or self._optimizer is None)
            if failed or isinstance(error, DivergedError):
                self.history = History()
                self._net = self._optimizer = self._stream_seed = None
                self._num_users = self._num_items = self.id_map = None
                rewind()
                if passed_in is not None and home is not None:
                    passed_in.to(home)
            raise

    def _warn_of_autograd(self, reason: Exception) -> None:
        """Say why no engine trains this model."""
        warnings.warn(
            f"training runs through autograd, many times slower than in the engine: {reason}",
            PerformanceWarning,
            stacklevel=4,
        )

    def _tensor(self, ids: NDArray[Any]) -> Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self._device)

    def _check_id_map(self, id_map: IdMap | None) -> None:
        """Raise if interactions with this map cannot go on with what the model has learnt: their ids mean others."""
        if self._net is not None and id_map != self.id_map:
            raise ValueError(
                f"interactions must have the id_map of the first fit, {self.id_map}, got {id_map} with other raw ids: "
                "make them by Interactions.from_frame(df, ..., id_map=model.id_map); or, if the ids do mean the same, "
                "set interactions.id_map = model.id_map"
            )

    def _check_batches(self, count: int, candidates: int) -> None:
        """Raise if a batch of an epoch of `count` rows, with so many items to score in each, is too large."""
        rows = min(self._batch_size, count)
        if rows * candidates > MOST_SCORED:
            raise ValueError(
                f"num_negative_samples and batch_size must leave less than 2**31 items to score in a batch, "
                f"got {rows} * {candidates}"
            )

    def _make_optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        if next(net.parameters(), None) is None:
            raise ValueError(f"representation must have parameters to train, got a {type(net).__name__} without any")
        if self._optimizer_func is not None:
            optimizer = self._optimizer_func(net.parameters())
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise TypeError(f"optimizer_func must return a torch.optim.Optimizer, got {optimizer!r}")
            if type(net) in self.BUILT_IN:
                check_gradients(net, optimizer)
            return optimizer
        if any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.sparse for layer in net.modules()):
            return DeferredAdam(net, lr=self._learning_rate, weight_decay=self._l2)
        # The same steps as without `fused`, in one pass over memory.
        return torch.optim.Adam(net.parameters(), lr=self._learning_rate, weight_decay=self._l2, fused=True)


def _device(use_cuda: bool, device: torch.device | str | None) -> torch.device:
    if device is None:
        device = "cuda" if use_cuda else "cpu"
    allowed = "device must be 'cpu' or a CUDA device, as 'cuda' or 'cuda:0'"
    if not isinstance(device, str | torch.device):
        raise TypeError(f"{allowed}, got {device!r} of type {type(device).__name__}")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"{allowed}, got {device!r}") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"{allowed}, got {str(chosen)!r}")
    if use_cuda and chosen.type != "cuda":
        raise ValueError(f"use_cuda=True and device={device!r} contradict each other")
    _require_device("use_cuda=True" if use_cuda else f"device={str(chosen)!r}", chosen)
    return chosen


def _require_device(asked: str, device: torch.device) -> None:
    """Raise if torch does not see a device, saying what asked for it."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f'{asked}: torch {torch.__version__} sees no CUDA device; device="cpu", the default, needs none'
        )


def check_tables(name: str, layers: Iterable[nn.Module], size: int) -> None:
    """Raise if a layer of a network that was passed in has fewer ids than the data need.

    Args:
        name: of the size, as "num_items".
        layers: layers of any kind; those of other kinds than ours are not looked at.
        size: of the interactions.
    """
    for layer in layers:
        if isinstance(layer, nn.Embedding | BloomEmbedding) and type(layer) in (*TABLES, BloomEmbedding):
            rows = layer.num_embeddings
            if rows < size:
                raise ValueError(f"representation must have {name} of at least {size}, as the interactions, got {rows}")
