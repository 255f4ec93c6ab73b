"""The one place time comes from, so that tests can move it."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def month_of(instant: datetime, time_zone: str) -> date:
    """The accounting month (its first day) that `instant` falls into in `time_zone`."""
    return day_of(instant, time_zone).replace(day=1)


def day_of(instant: datetime, time_zone: str) -> date:
    """The local day that `instant` falls into in `time_zone`."""
    return instant.astimezone(ZoneInfo(time_zone)).date()


def month_start(month: date, time_zone: str) -> datetime:
    """Local midnight of the first day of `month`, aware, in `time_zone`."""
    return datetime(month.year, month.month, 1, tzinfo=ZoneInfo(time_zone))


def next_month(month: date) -> date:
    """The first day of the month after `month`."""
    return (month.replace(day=1) + timedelta(days=31)).replace(day=1)


def month_before(month: date) -> date:
    """The first day of the month before `month`."""
    return (month.replace(day=1) - timedelta(days=1)).replace(day=1)
