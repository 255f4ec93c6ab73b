"""What both wire formats share: pure."""

import json
from collections.abc import Mapping
from typing import Any

#: Alternatives asked for in each place: as many as there are where they are labels' probabilities.
TOP_LOGPROBS_LABELS = 20
TOP_LOGPROBS_TEXT = 5


def count(value: Any) -> int:
    """A count of tokens, as a provider gives it.

    Raises:
        TypeError: it is no whole number.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a count of tokens is no whole number")
    return value


def part(counts: Mapping[str, Any] | None, name: str) -> int:
    """A count that a provider may leave out, which then is 0."""
    return count((counts or {}).get(name) or 0)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def json_text(value: Any) -> str:
    """`value` as JSON, as short as a model writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
