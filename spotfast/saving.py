"""Saved models: one safetensors file, tensors as they are, everything else as JSON in its metadata."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from spotfast import id_saving
from spotfast._version import __version__
from spotfast.training.history import Epoch

if TYPE_CHECKING:
    from spotfast.model import Model, OptimizerFunction

    AnyModel = TypeVar("AnyModel", bound=Model)

FORMAT = 1


def save(model: Model, path: Path) -> None:
    """Write a fitted model; see `Model.save`."""
    from safetensors.torch import save_file

    if model._net is None or model._optimizer is None:
        raise ValueError("the model has not been fitted: there is nothing to save")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must be in a folder that exists, got {path}")
    optimizer = model._optimizer.state_dict()  # first: it brings deferred rows up to date
    tensors = {f"net.{name}": tensor for name, tensor in model._net.state_dict().items()}
    state_values: dict[str, dict[str, Any]] = {}
    for index, state in optimizer["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                state_values.setdefault(str(index), {})[name] = value
    ids = None
    if model.id_map is not None:
        ids, raw_ids = id_saving.to_tensors(model.id_map)
        tensors.update({f"ids.{name}": tensor for name, tensor in raw_ids.items()})
    description = {
        "format": FORMAT,
        "spotfast": __version__,
        "class": type(model).__name__,
        "settings": model._settings(),
        "num_users": model._num_users,
        "num_items": model._num_items,
        "ids": ids,
        "stream_seed": model._stream_seed,
        "history": [asdict(epoch) for epoch in model.history],
        "representation": None if model._representation is None else type(model._representation).__name__,
        "optimizer": {
            "class": type(model._optimizer).__name__,
            "custom": model._optimizer_func is not None,
            "groups": [_plain(group) for group in optimizer["param_groups"]],
            "state": state_values,
        },
    }
    # Copies, for safetensors refuses tensors that share memory, as tied layers do.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, temporary, metadata={"spotfast": json.dumps(description)})
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(
    cls: type[AnyModel],
    path: Path,
    representation: nn.Module | None,
    optimizer_func: OptimizerFunction | None,
    device: torch.device | str | None,
) -> AnyModel:
    """Read a model; see `Model.load`."""
    description, tensors = _read(path)
    if description["class"] != cls.__name__:
        raise ValueError(f"{path} holds a {description['class']}, not a {cls.__name__}")
    if (representation is None) != (description["representation"] is None):
        expected = description["representation"]
        raise ValueError(
            f"representation must be {'None' if expected is None else f'a {expected}'} for {path}, "
            f"got {type(representation).__name__}"
        )
    if (optimizer_func is not None) != description["optimizer"]["custom"]:
        needed = "given" if description["optimizer"]["custom"] else "None"
        raise ValueError(f"optimizer_func must be {needed} for {path}, which was trained with its result")
    arguments = {**description["settings"], "optimizer_func": optimizer_func, "device": device}
    if representation is not None:
        arguments["representation"] = representation
    model = cls(**arguments)
    with model._as_new_on_error():
        model._initialize(description["num_users"], description["num_items"])
    assert model._net is not None and model._optimizer is not None
    saved, own = _with_prefix(tensors, "net."), model._net.state_dict()
    if {name: tensor.shape for name, tensor in saved.items()} != {name: tensor.shape for name, tensor in own.items()}:
        differing = sorted(
            name
            for name in {*saved, *own}
            if name not in saved or name not in own or saved[name].shape != own[name].shape
        )
        raise ValueError(f"representation does not fit {path}: {', '.join(differing)} differ in name or shape")
    model._net.load_state_dict(saved)
    model._optimizer.load_state_dict(_optimizer_state(description["optimizer"], tensors, model._optimizer, path))
    model._stream_seed = description["stream_seed"]
    if description["ids"] is not None:
        model.id_map = id_saving.from_tensors(description["ids"], _with_prefix(tensors, "ids."))
    for epoch in description["history"]:
        model.history.append(Epoch(**epoch))
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["spotfast"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"path must be a file that exists, got {path}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a model saved by spotfast, or damaged: {error}") from error
    if description["format"] != FORMAT:
        raise ValueError(f"{path} has format {description['format']}; this version reads format {FORMAT}")
    return description, tensors


def _optimizer_state(
    description: dict[str, Any], tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer, path: Path
) -> dict[str, Any]:
    saved, own = description["class"], type(optimizer).__name__
    # Which of these two is the default depends on the network's layers; they keep the same, in one format.
    if own != saved and not {own, saved} <= {"Adam", "DeferredAdam"}:
        raise ValueError(f"optimizer_func must return a {saved} for {path}, got a {own}")
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in description["state"].items()}
    for name, tensor in _with_prefix(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    # What JSON cannot keep (hooks, foreach flags of another torch) comes from the optimizer just made.
    groups = [
        {**new, **old} for new, old in zip(optimizer.state_dict()["param_groups"], description["groups"], strict=True)
    ]
    return {"state": state, "param_groups": groups}


def _plain(group: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in group.items():
        if isinstance(value, Tensor) and value.numel() == 1:
            plain[name] = value.item()
        elif isinstance(value, bool | int | float | str | list | tuple) or value is None:
            plain[name] = value
    return plain


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
