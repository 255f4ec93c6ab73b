"""What each day has cost each organization, by its own local days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

# A record's month is that of its hold, which may have been taken in the month before.
_DAY_COSTS = """
SELECT organization_id, day, sum(cost_eur), count(*)
FROM (
    SELECT cost.organization_id, cost.cost_eur,
           (cost.created_at AT TIME ZONE organization.time_zone)::date AS day
    FROM ai_costs cost JOIN organizations_organization organization ON organization.id = cost.organization_id
    WHERE cost.organization_id = ANY(%(ids)s) AND cost.month >= %(month)s
      AND cost.created_at >= %(from)s AND cost.created_at < %(until)s
) costs
WHERE day BETWEEN %(first)s AND %(last)s
GROUP BY organization_id, day
"""


@dataclass(frozen=True, slots=True)
class DayCost:
    organization_id: int
    day: date
    cost_eur: Decimal
    calls: int


def day_costs(organization_ids: Sequence[int], first: date, last: date) -> list[DayCost]:
    """The days from `first` to `last`, both local and inclusive, that have cost something; one query."""
    a_day = timedelta(days=1)
    values: dict[str, Any] = {
        **{"ids": list(organization_ids), "first": first, "last": last},
        **{"month": (first.replace(day=1) - a_day).replace(day=1)},
        **{"from": first - a_day, "until": last + 2 * a_day},
    }
    with connection.cursor() as cursor:
        cursor.execute(_DAY_COSTS, values)
        return [DayCost(*row) for row in cursor.fetchall()]
