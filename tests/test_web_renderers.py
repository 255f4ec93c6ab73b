"""What is written is JSON, whatever a model has said."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from aigov.web.renderers import json_bytes


@dataclass(frozen=True, slots=True)
class Words:
    text: str
    parts: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"a": ["ü", 1, 0.5, None, True]}, {"a": ["ü", 1, 0.5, None, True]}),
        ({"a": Words("x", ("y",))}, {"a": {"text": "x", "parts": ["y"]}}),
        ({"a": "half a pair: \ud83d"}, {"a": "half a pair: \ud83d"}),
        ({"a": Words("\udc00", ("y",))}, {"a": {"text": "\udc00", "parts": ["y"]}}),
    ],
)
def test_what_is_written_can_be_read(value: Any, read: Any) -> None:
    assert json.loads(json_bytes(value)) == read


def test_what_is_no_json_is_a_defect() -> None:
    with pytest.raises(TypeError):
        json_bytes({"a": object()})
