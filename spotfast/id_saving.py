"""Ids written down without pickle: numbers as a tensor, other raw ids as JSON in a tensor of bytes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spotfast.id_map import IdMap, Ids

# Strings, booleans, integers and None are themselves in JSON; every other type is a list of its name and a text.
_WRITE: dict[type, Callable[[Any], Any]] = {
    float: float.hex,
    bytes: bytes.hex,
    uuid.UUID: str,
    date: date.isoformat,
    datetime: datetime.isoformat,
    Decimal: str,
    tuple: lambda values: [_plain(value) for value in values],
}
_READ: dict[str, Callable[[Any], Any]] = {
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "UUID": uuid.UUID,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "Decimal": Decimal,
    "tuple": lambda values: tuple(_raw(value) for value in values),
}


def to_tensors(id_map: IdMap) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Write an id map down.

    Returns:
        What JSON can hold, and the tensors "users" and "items". Both are needed by `from_tensors`.

    Raises:
        ValueError: for raw ids of types other than str, bytes, int, float, bool, None, Decimal, date, datetime, UUID
            and tuples of these.
    """
    description, tensors = {}, {}
    for name, ids in (("users", id_map.users), ("items", id_map.items)):
        description[name] = {"dtype": ids.raw.dtype.name, "first": ids.first}
        if ids.raw.dtype == object:
            text = json.dumps([_plain(raw) for raw in ids.raw.tolist()], separators=(",", ":"))
            tensors[name] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        else:
            tensors[name] = torch.from_numpy(ids.raw.view(np.uint8).copy())
    return description, tensors


def from_tensors(description: dict[str, Any], tensors: dict[str, Tensor]) -> IdMap:
    """Read what `to_tensors` wrote."""

    def ids(name: str) -> Ids:
        array, dtype = tensors[name].numpy(), description[name]["dtype"]
        raw = map(_raw, json.loads(array.tobytes())) if dtype == "object" else array.view(dtype)
        return Ids(raw, description[name]["first"])

    return IdMap(ids("users"), ids("items"))


def _plain(raw: Any) -> Any:
    if type(raw) in (str, bool, int, type(None)):
        return raw
    if type(raw) not in _WRITE:
        allowed = ", ".join(["str", "bool", "int", "None", *(kind.__name__ for kind in _WRITE)])
        raise ValueError(
            f"raw ids must be of the types {allowed} to be saved, got {raw!r} of type {type(raw).__name__}: make them "
            "strings in the data frame, or save the model without them after model.id_map = None"
        )
    return [type(raw).__name__, _WRITE[type(raw)](raw)]


def _raw(plain: Any) -> Any:
    return _READ[plain[0]](plain[1]) if isinstance(plain, list) else plain
