"""Whether ids mean the same everywhere: in a data set and its map, in data sets, and in models fitted on them."""

from __future__ import annotations

from typing import Any

from spotfast.id_map import IdMap


def check_id_map(id_map: Any, num_items: int | None = None, num_users: int | None = None) -> None:
    """Raise unless `id_map` is None, or an `IdMap` of just so many users and items.

    Args:
        id_map: what is said to be the map.
        num_items: the size of the item table, padding included; None if there is none to compare.
        num_users: likewise of the user table.
    """
    if id_map is None:
        return
    if not isinstance(id_map, IdMap):
        raise TypeError(f"id_map must be an IdMap or None, got {type(id_map).__name__}")
    for name, ids, size in (("num_users", id_map.users, num_users), ("num_items", id_map.items, num_items)):
        if size is not None and ids.size != size:
            raise ValueError(f"{name} must be {ids.size}, as in id_map, got {size}")


def check_same(name: str, data: Any, of: Any, what: str = "the model") -> None:
    """Raise if ids mean one thing in the data and another to a model: both have an `id_map`, and these differ.

    Args:
        name: of the argument.
        data: interactions or sequences, or anything without `id_map`.
        of: what they are to agree with: a model, likewise.
        what: that is, for the message.

    Raises:
        ValueError: naming the argument and both maps.
    """
    id_map, expected = getattr(data, "id_map", None), getattr(of, "id_map", None)
    if id_map is None or expected is None or id_map == expected:
        return
    raise ValueError(
        f"{name} must have the id_map of {what}, {expected}, got {id_map} with other raw ids: "
        "make it by Interactions.from_frame(df, ..., id_map=..., unknown='drop')"
    )
