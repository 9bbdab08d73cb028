"""What all models share: the constructor's arguments, initialisation, state, saving and loading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from spotfast import saving, validation
from spotfast.optim import DeferredAdam
from spotfast.seeding import RandomStateLike, as_random_state, draw_stream_seed, torch_seed, unadvanced_on_error
from spotfast.training.history import History

OptimizerFunction = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


class Model:
    """Base of the models. Arguments are documented by the subclasses.

    Attributes:
        history: the epochs so far.
    """

    LOSSES: ClassVar[tuple[str, ...]]

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
        self._embedding_dim = validation.integer("embedding_dim", embedding_dim, 1)
        self._n_iter = validation.integer("n_iter", n_iter, 0)
        self._batch_size = validation.integer("batch_size", batch_size, 1)
        self._l2 = validation.real("l2", l2, 0.0)
        self._learning_rate = validation.real("learning_rate", learning_rate, 0.0)
        if optimizer_func is not None and not callable(optimizer_func):
            raise TypeError(f"optimizer_func must be a function of the parameters, got {optimizer_func!r}")
        self._optimizer_func = optimizer_func
        self._device = _device(use_cuda, device)
        self._use_cuda = self._device.type == "cuda"
        if representation is not None and not isinstance(representation, nn.Module):
            raise TypeError(f"representation must be a torch.nn.Module, got {representation!r}")
        self._representation = representation
        self._sparse = bool(sparse)
        self._random_state = as_random_state(random_state)

        self.history = History()
        self._net: nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._stream_seed: int | None = None
        self._num_users: int | None = None
        self._num_items: int | None = None

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
    def device(self) -> torch.device:
        """Where the network is, or will be."""
        return self._device

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one file: network, optimizer state, history, settings. No pickle.

        The file is a safetensors file with the settings as JSON in its metadata. It is written whole or not at all.

        Args:
            path: the file; an existing one is replaced.

        Raises:
            ValueError: if the model has not been fitted.
        """
        saving.save(self, Path(path))

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
            ValueError: if the file is of another model class or damaged, or `representation` or `optimizer_func` is
                missing or does not fit.
        """
        return saving.load(cls, Path(path), representation, optimizer_func, device)

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

    def _make_net(self, num_users: int, num_items: int) -> nn.Module:
        """Return the built-in network for these sizes."""
        raise NotImplementedError

    def _initialize(self, num_users: int, num_items: int) -> None:
        """Make the network and the optimizer; the model is unchanged if that fails."""
        with unadvanced_on_error(self._random_state):
            seed = draw_stream_seed(self._random_state)
            net = self._representation
            if net is None:
                with torch_seed(seed):
                    net = self._make_net(num_users, num_items)
            net = net.to(self._device)
            self._optimizer = self._make_optimizer(net)
        self._net, self._stream_seed = net, seed
        self._num_users, self._num_items = num_users, num_items

    def _forget(self) -> None:
        """Undo `_initialize`: the first fit failed before anything was learnt."""
        self._net = self._optimizer = self._stream_seed = self._num_users = self._num_items = None

    def _make_optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        if self._optimizer_func is not None:
            optimizer = self._optimizer_func(net.parameters())
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise TypeError(f"optimizer_func must return a torch.optim.Optimizer, got {optimizer!r}")
            return optimizer
        if any(isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.sparse for layer in net.modules()):
            return DeferredAdam(net, lr=self._learning_rate, weight_decay=self._l2)
        # The same steps as without `fused`, in one pass over memory.
        return torch.optim.Adam(net.parameters(), lr=self._learning_rate, weight_decay=self._l2, fused=True)


def _device(use_cuda: bool, device: torch.device | str | None) -> torch.device:
    if device is None:
        device = "cuda" if use_cuda else "cpu"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be a torch device such as 'cpu' or 'cuda:0', got {device!r}") from error
    if use_cuda and chosen.type != "cuda":
        raise ValueError(f"use_cuda=True and device={device!r} contradict each other")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device {chosen} asked for, but torch {torch.__version__} sees no CUDA device")
    return chosen
