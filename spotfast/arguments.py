"""The constructor's arguments as attributes of a model: to read, and to set where the next `fit` can go by it."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class Argument(Generic[T]):
    """An argument, which the model keeps under the name with an underscore before it.

    Args:
        check: returns a valid value, or raises; called with the name and the value. None: it cannot be set.
        instead: what to do in place of setting it.
        read: returns it from a model that keeps it otherwise.
    """

    def __init__(
        self,
        check: Callable[[str, Any], T] | None = None,
        instead: str = "make a new model with another one",
        read: Callable[[Any], T] | None = None,
    ) -> None:
        self._check = check
        self._instead = instead
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._read = self._read or attrgetter(f"_{name}")

    @overload
    def __get__(self, model: None, owner: type) -> Self: ...
    @overload
    def __get__(self, model: object, owner: type) -> T: ...
    def __get__(self, model: object | None, owner: type) -> Self | T:
        assert self._read is not None
        return self if model is None else self._read(model)

    def __set__(self, model: object, value: Any) -> None:
        if self._check is None:
            raise AttributeError(f"{self._name} cannot be set: {self._instead}")
        setattr(model, f"_{self._name}", self._check(self._name, value))
