"""The bins that confidences and latencies are counted in: fixed, so that days can be added up.

A percentile of latencies is read from the bins by interpolation. Bounds grow by 2^(1/4), so it is off by less
than 19 % of itself, whatever the distribution, and by far less where a bin is evenly filled.
"""

from collections.abc import Mapping

CONFIDENCE, LATENCY = "confidence", "latency"

CONFIDENCE_BINS = 20
LATENCY_BINS_PER_DOUBLING = 4
#: The last bin begins at about two minutes, and has no end.
LATENCY_BINS = 68

# A hundred-millionth mends what binary fractions and the logarithm lose at a bin's beginning.


def confidence_bin_sql(column: str) -> str:
    """The number of the bin that a column's value falls into, in SQL."""
    return f"least(floor({column} * {CONFIDENCE_BINS} + 1e-8), {CONFIDENCE_BINS - 1})::smallint"


def latency_bin_sql(column: str) -> str:
    doublings = f"ln(greatest({column}, 1)::float8) / ln(2::float8)"
    return f"least(floor({LATENCY_BINS_PER_DOUBLING} * {doublings} + 1e-8), {LATENCY_BINS - 1})::smallint"


def confidence_range(number: int) -> tuple[float, float]:
    """From (inclusive) and to (exclusive; the last one inclusive) of a bin of confidences."""
    return number / CONFIDENCE_BINS, (number + 1) / CONFIDENCE_BINS


def latency_from_ms(number: int) -> float:
    """Where a bin of latencies begins, in ms; the first holds everything below its end."""
    return 0.0 if number == 0 else float(2 ** (number / LATENCY_BINS_PER_DOUBLING))


def latency_percentile_ms(requests_by_bin: Mapping[int, int], share: float) -> float | None:
    """The latency in ms that `share` (0 to 1) of the requests do not exceed; None without any request.

    Within a bin the requests are taken as evenly spread. The last bin has no end: its beginning is given.
    """
    wanted = share * sum(requests_by_bin.values())
    seen = 0
    for number, requests in sorted(requests_by_bin.items()):
        if requests and seen + requests >= wanted:
            begin = latency_from_ms(number)
            end = begin if number == LATENCY_BINS - 1 else latency_from_ms(number + 1)
            return begin + (end - begin) * max(wanted - seen, 0) / requests
        seen += requests
    return None
