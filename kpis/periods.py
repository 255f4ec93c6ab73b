"""The span of days that figures are of, and the one that it is compared with."""

from dataclasses import dataclass
from datetime import date, timedelta

from aigov import clock

#: Two years and a day: as far as the dashboards look.
DAYS_MAX = 732


@dataclass(frozen=True, slots=True)
class Period:
    """Local days of the organization, both inclusive.

    Raises:
        ValueError: it ends before it begins, or is longer than `DAYS_MAX`.
    """

    first: date
    last: date

    def __post_init__(self) -> None:
        if not 0 <= (self.last - self.first).days < DAYS_MAX:
            raise ValueError(f"no period of 1 to {DAYS_MAX} days: {self.first} to {self.last}")

    @property
    def days(self) -> tuple[date, ...]:
        return tuple(self.first + timedelta(days=at) for at in range((self.last - self.first).days + 1))

    @property
    def is_whole_months(self) -> bool:
        return self.first.day == 1 and (self.last + timedelta(days=1)).day == 1

    @property
    def before(self) -> "Period":
        """The period that it is compared with: as many months before whole months, else as many days."""
        last = self.first - timedelta(days=1)
        if not self.is_whole_months:
            return Period(last - (self.last - self.first), last)
        months = (self.last.year - self.first.year) * 12 + self.last.month - self.first.month + 1
        begin = self.first.year * 12 + self.first.month - 1 - months
        return Period(date(begin // 12, begin % 12 + 1, 1), last)

    @classmethod
    def of_month(cls, month: date) -> "Period":
        """The accounting month of which `month` is any day."""
        return cls(month.replace(day=1), clock.next_month(month) - timedelta(days=1))
