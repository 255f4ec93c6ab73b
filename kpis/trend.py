"""A straight line through figures of equal steps, and how sure it is. Pure; statistics, not money."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Fewer points make no trend.
POINTS_MIN = 5

#: Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom
#: (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2).
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True, slots=True)
class Trend:
    """At each step the line's height, and the band in which the true line lies with 95 % confidence.

    Args:
        slope: what a step adds; `slope_low` to `slope_high` is its 95 % interval.
    """

    line: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    slope: float
    slope_low: float
    slope_high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the slope leaves out 0: it rises or falls, not by chance alone."""
        return self.slope_low > 0 or self.slope_high < 0


def trend(values: Sequence[float | None]) -> Trend | None:
    """The least-squares line through `values` at the steps 0, 1, 2 …; None where fewer than five are known.

    With x̄, ȳ the means of the n known points and Sxx = Σ(x − x̄)², the slope is b = Σ(x − x̄)(y − ȳ) / Sxx and
    s² = Σ(y − ŷ)² / (n − 2). The half-widths of the 95 % intervals are t·s·√(1/n + (x − x̄)²/Sxx) of the line
    and t·s/√Sxx of the slope (Draper and Smith, Applied Regression Analysis, 3rd ed., section 1.4).
    """
    points = [(float(x), y) for x, y in enumerate(values) if y is not None]
    n = len(points)
    if n < POINTS_MIN:
        return None
    mean_x, mean_y = (sum(axis) / n for axis in zip(*points, strict=True))
    s_xx = sum((x - mean_x) ** 2 for x, _y in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / s_xx
    residuals = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    half = t95(n - 2) * math.sqrt(residuals / (n - 2))
    line = [mean_y + slope * (x - mean_x) for x in range(len(values))]
    widths = [half * math.sqrt(1 / n + (x - mean_x) ** 2 / s_xx) for x in range(len(values))]
    return Trend(
        line,
        [at - width for at, width in zip(line, widths, strict=True)],
        [at + width for at, width in zip(line, widths, strict=True)],
        slope,
        slope - half / math.sqrt(s_xx),
        slope + half / math.sqrt(s_xx),
    )


def t95(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t; beyond 30 degrees of freedom 1.96 + 2.5/ν, within 0.003."""
    return _T95[freedom - 1] if freedom <= len(_T95) else 1.96 + 2.5 / freedom
