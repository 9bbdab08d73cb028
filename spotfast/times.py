"""Dates and times of Python and pandas as numpy's, in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray


def moment(time: Any) -> Any:
    """Return a date or time as datetime64, in UTC if it has a time zone; anything else as it is."""
    if hasattr(time, "to_datetime64"):  # pandas', which are finer than a datetime, and in UTC then
        return time.to_datetime64()
    if isinstance(time, datetime) and time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(time) if isinstance(time, date) else time


def moments(name: str, array: NDArray[np.object_]) -> NDArray[Any]:
    """Return an array of dates and times as one of datetime64; an array that holds anything else as it is.

    Raises:
        TypeError: if some have a time zone and others have none: they cannot be compared.
    """
    times = array.reshape(-1).tolist()
    numbers = [moment(time) for time in times]
    if not numbers or not all(isinstance(number, np.datetime64) for number in numbers):
        return array
    there = [time for time, number in zip(times, numbers, strict=True) if not np.isnat(number)]  # NaT has no zone
    zones = {getattr(time, "tzinfo", None) is not None for time in there}
    if len(zones) > 1:
        raise TypeError(f"{name} must all have a time zone, or none: they cannot be compared")
    return np.array(numbers).reshape(array.shape)
