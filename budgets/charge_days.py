"""The day of a charge: the organization's local day, within its accounting month.

A call that is settled after midnight belongs to the month in which its hold was taken, and so to that month's
last day. Thus the days of a month are exactly the month, whenever its calls were settled.
"""

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import DateField, Q, Value
from django.db.models.functions import Greatest, Least, TruncDate

from aigov import clock


def charge_day(created_at: datetime, month: date, time_zone: str) -> date:
    """The day of a charge of `month` that was made at `created_at`."""
    day = created_at.astimezone(ZoneInfo(time_zone)).date()
    return min(max(day, month), last_day(month))


def last_day(month: date) -> date:
    return clock.next_month(month) - timedelta(days=1)


def day_in(month: date, time_zone: str) -> Any:
    """`charge_day` for the database, of the cost records of one month."""
    first, last = (Value(day, output_field=DateField()) for day in (month, last_day(month)))
    return Least(Greatest(TruncDate("created_at", tzinfo=ZoneInfo(time_zone)), first), last)


def in_days(first: date, last: date, time_zone: str) -> Q:
    """The cost records of an organization whose `charge_day` is from `first` to `last`, both inclusive."""
    first_month, last_month, after = first.replace(day=1), last.replace(day=1), last + timedelta(days=1)
    days = Q(month__gte=first_month, month__lte=last_month)
    if first.day > 1:
        days &= Q(month__gt=first_month) | Q(created_at__gte=_midnight(first, time_zone))
    if after.day > 1:
        days &= Q(month__lt=last_month) | Q(created_at__lt=_midnight(after, time_zone))
    return days


def _midnight(day: date, time_zone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(time_zone))
