"""A month's days as a small line: an SVG of a few hundred bytes, drawn on the server."""

from collections.abc import Sequence
from decimal import Decimal

from django.utils.html import format_html
from django.utils.safestring import SafeString

WIDTH, HEIGHT, MARGIN = 120, 28, 2


def sparkline(values: Sequence[Decimal], *, said: str) -> SafeString | str:
    """A line through `values`, from zero up to the largest; nothing where there are fewer than two.

    Args:
        said: what it shows, for whoever hears the page or points at the line.
    """
    if len(values) < 2:
        return ""
    points = _points(values)
    return format_html(
        '<svg class="sparkline" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>'
        '<polyline points="{}"/><circle cx="{}" cy="{}" r="2"/></svg>',
        *(WIDTH, HEIGHT, said, said),
        " ".join(f"{x},{y}" for x, y in points),
        *points[-1],
    )


def _points(values: Sequence[Decimal]) -> list[tuple[str, str]]:
    """Where each value stands, a negative one (a correction) at the bottom."""
    top = max(*values, Decimal(0)) or Decimal(1)
    step = Decimal(WIDTH - 2 * MARGIN) / (len(values) - 1)
    room = HEIGHT - 2 * MARGIN
    return [
        (f"{MARGIN + step * index:.1f}", f"{HEIGHT - MARGIN - max(value, Decimal(0)) / top * room:.1f}")
        for index, value in enumerate(values)
    ]
