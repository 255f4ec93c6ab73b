"""Texts, tools and images that both clients' cases ask with."""

import base64
import struct
import zlib
from typing import Literal

from pydantic import BaseModel

ASK = "What makes a good offer?"
SYSTEM = "You work for a dealer in bicycles. Be brief."
WEATHER_IN_BONN = "Use get_weather for Bonn."
BOTH_TOOLS = "Use get_weather and get_time for Bonn, both at once."
COUNT = "Count in words: one two three four five six. Say nothing else."
STORY = "Tell a long story about a lighthouse."
LEAD = "We need 200 licences by Friday, the budget is approved. Which category does this lead have?"
LETTERS = "Repeat this: Übergrößenträger 🚲"
#: Longer than what Anthropic's models cache at least.
TERMS = "Section {}. Goods are delivered within ten working days, and paid within thirty.\n"
TERMS = "".join(TERMS.format(number) for number in range(400))

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
LEAD_SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"type": "string", "enum": ["hot", "warm", "cold"]},
        "reason": {"type": "string"},
    },
    "required": ["category", "reason"],
    "additionalProperties": False,
}


class Lead(BaseModel):
    category: Literal["hot", "warm", "cold"]
    reason: str


#: What each client makes of the class.
LEAD_BY_OPENAI = {**Lead.model_json_schema(), "additionalProperties": False}
LEAD_BY_ANTHROPIC = {
    **LEAD_BY_OPENAI,
    "properties": {
        "category": {"title": "Category", "enum": ["hot", "warm", "cold"]},
        "reason": {"title": "Reason", "type": "string"},
    },
}


class GetWeather(BaseModel):
    """The weather in a city."""

    city: str


def _png(side: int) -> bytes:
    """A red square of `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = (b"\x00" + b"\xff\x00\x00" * side) * side
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


#: PNG in base64.
RED_SQUARE = base64.b64encode(_png(200)).decode()
LOGO = "https://www.python.org/static/community_logos/python-logo-master-v3-TM.png"
