"""Values of requests that are taken as they are written: nothing else is read into them."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from pydantic import BeforeValidator


def _written_as_a_day(value: Any) -> Any:
    """Only YYYY-MM-DD: a number would be counted from 1970."""
    if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.A)):
        return value
    raise ValueError("must be a date as YYYY-MM-DD")


def _no_truth(value: Any) -> Any:
    """Not `true`, which would be number 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Day = Annotated[date, BeforeValidator(_written_as_a_day)]
Number = Annotated[int, BeforeValidator(_no_truth)]
