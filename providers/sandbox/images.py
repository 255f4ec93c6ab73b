"""Images: how large one is, and how many tokens each provider counts for it.

OpenAI counts tiles of 512 pixels or patches of 32, by the model; Anthropic the pixels. An image that is given
by its address is not fetched: it has the size that its address names (`…/800x600.png`), or 1024 × 1024.
"""

import base64
import binascii
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

SIZE_IN_URL = re.compile(r"(?<!\d)(\d{1,5})x(\d{1,5})(?!\d)")
SIZE_UNKNOWN = (1024, 1024)
#: JPEG's segments that say the size.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tiles:
    """Scaled into 2048 × 2048, then to a short side of 768; a base, and so much for each tile of 512."""

    base: int
    tile: int


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of 32 × 32, scaled down to `most` of them, times a factor that differs by model."""

    factor: float
    most: int = 1536


#: The first pattern that a model's name matches. The factors from gpt-5.2 on are measured, not documented.
OPENAI: tuple[tuple[re.Pattern[str], Tiles | Patches], ...] = (
    (re.compile(r"gpt-4o-mini"), Tiles(2833, 5667)),
    (re.compile(r"gpt-4\.1-mini|gpt-5[\d.]*-mini"), Patches(1.62)),
    (re.compile(r"gpt-4\.1-nano|gpt-5[\d.]*-nano"), Patches(2.46)),
    (re.compile(r"o4-mini"), Patches(1.72)),
    (re.compile(r"gpt-5\.2"), Patches(1.2)),
    (re.compile(r"gpt-5\.[4-9]"), Patches(1.2, most=2500)),
    (re.compile(r"gpt-5"), Tiles(70, 140)),
    (re.compile(r"o\d"), Tiles(75, 150)),
    (re.compile(r""), Tiles(85, 170)),
)


def openai_tokens(model: str, size: Size, *, low_detail: bool) -> int:
    """What OpenAI counts for an image of `size` (width and height in pixels)."""
    measure = next(measure for pattern, measure in OPENAI if pattern.match(model))
    if isinstance(measure, Patches):
        return math.ceil(_patches(size, measure.most) * measure.factor)
    if low_detail:
        return measure.base
    width, height = _within(size, 2048)
    scale = min(1.0, 768 / min(width, height))
    return measure.base + measure.tile * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _patches(size: Size, most: int) -> int:
    width, height = size
    patches = math.ceil(width / 32) * math.ceil(height / 32)
    if patches <= most:
        return patches
    shrink = math.sqrt(most * 32**2 / (width * height))
    across, down = width * shrink / 32, height * shrink / 32
    shrink *= min(max(1, math.floor(across)) / across, max(1, math.floor(down)) / down)
    return min(most, math.ceil(width * shrink / 32) * math.ceil(height * shrink / 32))


def anthropic_tokens(size: Size, *, side_max: int, tokens_max: int) -> int:
    """What Anthropic counts: a token for 750 pixels, after scaling down to its limits."""
    width, height = _within(size, side_max)
    return min(tokens_max, math.ceil(width * height / 750))


def _within(size: Size, side_max: int) -> tuple[float, float]:
    width, height = size
    scale = min(1.0, side_max / max(width, height))
    return width * scale, height * scale


def size_of_url(url: str) -> Size:
    """The size that an address names, or the usual one."""
    found = SIZE_IN_URL.findall(url)
    width, height = (int(found[-1][0]), int(found[-1][1])) if found else SIZE_UNKNOWN
    return max(1, width), max(1, height)


def decoded(data: str) -> bytes | None:
    """The bytes that base64 text stands for; None where it is none."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def size_of(image: bytes) -> Size | None:
    """Width and height of a PNG, GIF, WebP or JPEG; None of anything else."""
    if image[:8] == b"\x89PNG\r\n\x1a\n" and len(image) >= 24:
        return _positive(*struct.unpack(">II", image[16:24]))
    if image[:6] in (b"GIF87a", b"GIF89a") and len(image) >= 10:
        return _positive(*struct.unpack("<HH", image[6:10]))
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP" and len(image) >= 30:
        return _webp(image)
    if image[:2] == b"\xff\xd8":
        return next(_jpeg(image), None)
    return None


def _positive(width: int, height: int) -> Size | None:
    return (width, height) if width and height else None


def _webp(image: bytes) -> Size | None:
    kind = image[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(image[24:27], "little"), 1 + int.from_bytes(image[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(image[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", image[26:30])
    return _positive(width & 0x3FFF, height & 0x3FFF)


def _jpeg(image: bytes) -> Iterator[Size]:
    at = 2
    while at + 9 <= len(image) and image[at] == 0xFF:
        if image[at + 1] in START_OF_FRAME:
            height, width = struct.unpack(">HH", image[at + 5 : at + 9])
            if size := _positive(width, height):
                yield size
            return
        at += 2 + max(2, int.from_bytes(image[at + 2 : at + 4], "big"))
