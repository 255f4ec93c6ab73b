"""Leads and orders are told by others, again and again; each counts once, as it was told last.

The verb takes a batch whole or not at all, so that nothing is lost unseen. What is told again changes
nothing. Where a lead or order is told with another time or value, the new ones count, and the audit trail
keeps the old ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from aigov import clock
from aigov.errors import BadRequest
from aigov.money import cap_text
from aigov.organizations.audit import Acting, write_audit_entry
from aigov.organizations.models import Organization
from kpis.models import Outcome

OUTCOMES_MAX = 1_000
EXTERNAL_ID_CHARACTERS_MAX = 200
#: What is dated outside of these is a mistake: clocks differ by minutes, and no CRM is older.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD_S_MAX = 24 * 3600


@dataclass(frozen=True, slots=True)
class Told:
    """A lead or an order as somebody tells us of it; `occurred_at` is aware, the value in euro."""

    kind: str
    external_id: str
    occurred_at: datetime
    value_eur: Decimal

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.external_id


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of what was told."""

    created: int
    changed: int
    unchanged: int


@transaction.atomic
def record_outcomes(*, organization: Organization, outcomes: Sequence[Told], acting: Acting) -> Taken:
    """Records leads and orders. Of one that is told twice in the batch, the last counts.

    Raises:
        BadRequest: there are too many, or one is dated where none can be; nothing is recorded.
    """
    _check(outcomes)
    _take_turns(organization)
    told = {outcome.key: outcome for outcome in outcomes}
    before = _known(organization, list(told.values()))
    _write(organization, list(told.values()))
    changed = {key: known for key, known in before.items() if known != _facts(told[key])}
    if changed:
        write_audit_entry(
            organization=organization,
            acting=acting,
            action="outcome.change",
            target=", ".join(f"{kind} {external_id}" for kind, external_id in changed),
            before={" ".join(key): known for key, known in changed.items()},
            after={" ".join(key): _facts(told[key]) for key in changed},
        )
    return Taken(len(told) - len(before), len(changed), len(before) - len(changed))


def _check(outcomes: Sequence[Told]) -> None:
    if len(outcomes) > OUTCOMES_MAX:
        raise BadRequest(f"At most {OUTCOMES_MAX} leads and orders are taken at once.", param="outcomes")
    for number, outcome in enumerate(outcomes):
        if not is_possible(outcome.occurred_at):
            raise BadRequest(
                f"The date is none that a lead or order can have: {outcome.occurred_at.isoformat()}.",
                param=f"outcomes[{number}].occurred_at",
            )


def is_possible(occurred_at: datetime) -> bool:
    """Whether a lead or an order can be of that time."""
    return EARLIEST.timestamp() <= occurred_at.timestamp() <= clock.now().timestamp() + AHEAD_S_MAX


def _take_turns(organization: Organization) -> None:
    """Until the end of the transaction no other batch of the organization is recorded.

    Two that tell of the same new lead would both take it for new, and one's value would be lost unnoticed.
    """
    Organization.objects.select_for_update(no_key=True).values_list("pk").get(pk=organization.pk)


def _known(organization: Organization, outcomes: Sequence[Told]) -> dict[tuple[str, str], Mapping[str, str]]:
    """What is recorded of them."""
    ids = {outcome.external_id for outcome in outcomes}
    wanted = {outcome.key for outcome in outcomes}
    rows = Outcome.objects.filter(organization=organization, external_id__in=ids)
    found = rows.order_by("kind", "external_id").values_list(
        *("kind", "external_id", "occurred_at", "value_eur")
    )
    return {(row[0], row[1]): _facts(Told(*row)) for row in found if (row[0], row[1]) in wanted}


def _facts(outcome: Told) -> Mapping[str, str]:
    """What the audit trail keeps, and by which a change is noticed."""
    occurred_at = outcome.occurred_at.astimezone(UTC).isoformat()
    return {"occurred_at": occurred_at, "value_eur": cap_text(outcome.value_eur)}


def _write(organization: Organization, outcomes: Sequence[Told]) -> None:
    columns: list[list[Any]] = [
        [outcome.kind for outcome in outcomes],
        [outcome.external_id for outcome in outcomes],
        [outcome.occurred_at for outcome in outcomes],
        [outcome.value_eur for outcome in outcomes],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_UPSERT, [organization.pk, clock.now(), *columns, organization.pk])


_UPSERT = """
INSERT INTO kpi_outcomes AS o
    (organization_id, kind, external_id, occurred_at, day, value_eur, received_at)
SELECT %s, told.kind, told.external_id, told.occurred_at,
       (told.occurred_at AT TIME ZONE home.time_zone)::date, told.value_eur, %s
FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::numeric[])
    AS told (kind, external_id, occurred_at, value_eur), organizations_organization home
WHERE home.id = %s
ON CONFLICT (organization_id, kind, external_id) DO UPDATE
SET occurred_at = excluded.occurred_at, day = excluded.day, value_eur = excluded.value_eur,
    received_at = excluded.received_at
WHERE (o.occurred_at, o.value_eur) IS DISTINCT FROM (excluded.occurred_at, excluded.value_eur)
"""


@transaction.atomic
def record_table(*, organization: Organization, outcomes: Sequence[Told], acting: Acting) -> Taken:
    """Records as many leads and orders as a file has; all of them or none."""
    taken = [
        record_outcomes(
            organization=organization, outcomes=outcomes[start : start + OUTCOMES_MAX], acting=acting
        )
        for start in range(0, len(outcomes), OUTCOMES_MAX)
    ]
    return Taken(
        sum(batch.created for batch in taken),
        sum(batch.changed for batch in taken),
        sum(batch.unchanged for batch in taken),
    )
