"""Months begin at local midnight, also where the clocks change."""

from datetime import UTC, date, datetime

import pytest

from aigov import clock


@pytest.mark.parametrize(
    ("instant", "time_zone", "month"),
    [
        ("2026-11-30T22:59:59", "Europe/Berlin", "2026-11-01"),
        ("2026-11-30T23:00:00", "Europe/Berlin", "2026-12-01"),
        ("2026-03-31T21:59:59", "Europe/Berlin", "2026-03-01"),
        ("2026-03-31T22:00:00", "Europe/Berlin", "2026-04-01"),
        ("2026-12-01T04:59:59", "America/New_York", "2026-11-01"),
        ("2025-12-31T12:00:00", "Pacific/Kiritimati", "2026-01-01"),
    ],
)
def test_the_month_is_the_local_one(instant: str, time_zone: str, month: str) -> None:
    aware = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert clock.month_of(aware, time_zone) == date.fromisoformat(month)


def test_a_month_starts_at_local_midnight_with_the_offset_of_its_season() -> None:
    assert clock.month_start(date(2026, 12, 1), "Europe/Berlin").isoformat() == "2026-12-01T00:00:00+01:00"
    assert clock.month_start(date(2026, 7, 1), "Europe/Berlin").isoformat() == "2026-07-01T00:00:00+02:00"


@pytest.mark.parametrize(("month", "following"), [("2026-01-31", "2026-02-01"), ("2026-12-01", "2027-01-01")])
def test_the_month_after(month: str, following: str) -> None:
    assert clock.next_month(date.fromisoformat(month)) == date.fromisoformat(following)


def test_now_is_aware() -> None:
    assert clock.now().tzinfo is UTC
