"""The sandbox's parts that are pure: sizes of images, objects that fit a schema, what is cached."""

import json
import struct
from typing import Any

import jsonschema
import pytest

from providers.sandbox import images, schemas, tools
from providers.sandbox.caching import Cached, PromptCache, Segment

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04ab"
    + b"\xff\xc4\x00\x02"
    + b"\xff\xc0\x00\x11\x08"
    + struct.pack(">HH", 480, 640)
    + b"\x03"
)


def webp(kind: bytes, rest: bytes) -> bytes:
    return b"RIFF\x00\x00\x00\x00WEBP" + kind + b"\x00\x00\x00\x00" + rest


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (JPEG, (640, 480)),
        (b"GIF87a" + struct.pack("<HH", 3, 2), (3, 2)),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 5, 4), (5, 4)),
        (webp(b"VP8X", b"\x00" * 4 + b"\x63\x00\x00\x31\x00\x00"), (100, 50)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 99 | 49 << 14) + b"\x00" * 5), (100, 50)),
        (webp(b"VP8 ", b"\x00" * 6 + struct.pack("<HH", 100, 50)), (100, 50)),
        (b"GIF87a" + struct.pack("<HH", 0, 2), None),
        (b"\xff\xd8\xff\xe0\x00\x04", None),
        (b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x00\x00\x00\x03", None),
        (b"BM", None),
        (b"", None),
    ],
)
def test_the_size_of_an_image_stands_in_its_head(image: bytes, size: Any) -> None:
    assert images.size_of(image) == size


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4.1-nano", (32, 32), 3),
        ("gpt-5-mini", (1024, 1024), 1659),
        ("gpt-5.4", (1600, 1600), 3000),
        ("gpt-5.2", (10_000, 10), 376),
        ("gpt-5", (512, 512), 210),
        ("o4-mini", (64, 32), 4),
    ],
)
def test_openai_counts_by_the_model(model: str, size: images.Size, tokens: int) -> None:
    assert images.openai_tokens(model, size, low_detail=False) == tokens


@pytest.mark.parametrize("size", [(1, 1), (31, 4000), (4000, 3000), (99_999, 99_999), (99_999, 1)])
def test_patches_have_their_limit(size: images.Size) -> None:
    assert 1 <= images.openai_tokens("gpt-4.1-mini", size, low_detail=False) <= 2489


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 40, "maxLength": 41},
        {"type": "string", "maxLength": 2},
        {"type": "string", "minLength": 3},
        {"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["ABC"]},
        {"type": "string", "pattern": "^[A-Z]{3}$", "default": "DEF"},
        {"type": "integer", "exclusiveMinimum": 7, "multipleOf": 5},
        {"type": "integer", "maximum": 9, "multipleOf": 4},
        {"type": "integer", "minimum": -3, "exclusiveMaximum": 0},
        {"type": "number", "minimum": 0.2, "maximum": 0.9},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3},
        {"type": "array", "items": {"type": "integer"}, "maxItems": 0},
        {"oneOf": [{"type": "boolean"}, {"type": "null"}]},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"$ref": "#/definitions/more"},
            ],
            "definitions": {"more": {"properties": {"b": {"enum": [3]}}, "required": ["b"]}},
        },
        {"type": "object", "properties": {"again": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}},
        {"type": ["null", "integer"]},
        {"enum": [{"a": 1}, None]},
        {"type": "object"},
    ],
)
def test_what_is_filled_fits_the_schema(schema: dict[str, Any]) -> None:
    for asked in ("x", "", "Bitte 60 Lizenzen für 12 Leute, „dringend“!"):
        jsonschema.validate(json.loads(tools.arguments_for(json.dumps(schema), asked)), schema)


@pytest.mark.parametrize("form", sorted(schemas.FORMATS))
def test_texts_have_the_form_that_is_asked_for(form: str) -> None:
    said = json.loads(tools.arguments_for(json.dumps({"type": "string", "format": form}), "x"))
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.validate(said, {"type": "string", "format": form}, format_checker=checker)
    assert said == schemas.FORMATS[form]


def test_a_label_is_taken_from_the_question() -> None:
    schema = json.dumps({"enum": ["celsius", "fahrenheit"]})
    assert json.loads(tools.arguments_for(schema, "in Fahrenheit, please")) == "fahrenheit"


def use(cache: PromptCache, *segments: Segment, model: str = "m") -> Cached:
    return cache.use(model, segments, least=0, most=1000)


def test_the_cache_reads_the_longest_prefix_that_it_has() -> None:
    cache = PromptCache()
    first, second = Segment("a" * 40, lifetime="1h"), Segment("b" * 40, lifetime="5m")
    assert use(cache, first) == Cached(written_1h=13)
    assert use(cache, first, second) == Cached(read=13, written_5m=13)
    assert use(cache, first, second, Segment("c")) == Cached(read=26)
    assert use(cache, first, Segment("b" * 40)) == Cached(read=13)
    assert use(cache, second) == Cached(written_5m=13)
    assert use(cache, first, model="n") == Cached(written_1h=13)
    cache.reset()
    assert use(cache, first, second) == Cached(written_5m=13, written_1h=13)


def test_the_cache_keeps_to_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.sandbox.caching.ENTRIES_MAX", 2)
    cache = PromptCache()
    segments = [Segment(text * 40, lifetime="5m") for text in "abc"]
    for segment in segments:
        assert use(cache, segment).read == 0
    assert use(cache, segments[0]).read == 0
    assert use(cache, segments[2]).read == 13
    assert cache.use("m", [Segment("d" * 400, lifetime="5m")], least=200, most=1000) == Cached()
    assert cache.use("m", [Segment("d" * 400, lifetime="5m")], least=0, most=50) == Cached(written_5m=50)
