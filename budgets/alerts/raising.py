"""The one writer of alerts. Each is raised once in its period, however many processes notice it at once: the
database's UNIQUE decides who was first, and who was first writes its deliveries, in the same transaction.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils.translation import gettext as _

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.audit import write_audit_entry
from aigov.organizations.models import User
from budgets.alerts.outbox import write_deliveries
from budgets.alerts.rules import Finding
from budgets.models import Alert, AlertKind

# In one order, so that two who raise the same ones do not wait for each other.
_RAISE = """
INSERT INTO budget_alerts
    (organization_id, kind, period, key, severity, figures, raised_at, resolved_at, note)
SELECT organization_id, kind, period, key, severity, figures, %(now)s,
       CASE WHEN NOT is_news THEN %(now)s::timestamptz END, ''
FROM jsonb_to_recordset(%(findings)s) AS found (
    organization_id bigint, kind text, period text, key text, severity text, figures jsonb, is_news boolean)
ORDER BY organization_id, kind, period, key
ON CONFLICT DO NOTHING
RETURNING id
"""
_FOUND = """
jsonb_to_recordset(%(findings)s) AS found (
    organization_id bigint, kind text, period text, key text, figures jsonb, is_news boolean)
"""
_SAME = """
found.is_news AND found.kind = alert.kind AND found.period = alert.period AND found.key = alert.key
AND found.organization_id IS NOT DISTINCT FROM alert.organization_id
"""
# What was raised since the look began is not over because that look has not seen it.
_RESOLVE = f"""
UPDATE budget_alerts alert SET resolved_at = %(now)s
WHERE resolved_at IS NULL AND kind = ANY(%(kinds)s) AND raised_at < %(looked_at)s
  AND NOT EXISTS (SELECT FROM {_FOUND} WHERE {_SAME})
"""
# It tells of what is so now, and since when; nothing is sent a second time in its period.
_REOPEN = f"""
UPDATE budget_alerts alert SET resolved_at = NULL, raised_at = %(now)s, figures = found.figures
FROM {_FOUND}
WHERE alert.resolved_at IS NOT NULL AND alert.kind = ANY(%(kinds)s) AND alert.period = ANY(%(periods)s)
  AND {_SAME}
"""


@transaction.atomic
def raise_alerts(findings: Iterable[Finding]) -> list[Alert]:
    """Raises those of `findings` that their periods do not have yet, and has them delivered.

    Returns:
        The new ones that are news.
    """
    ordered = sorted(findings, key=lambda finding: finding.identity)
    if not ordered:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_RAISE, {"now": clock.now(), "findings": _as_json(ordered)})
        ids = [id_ for (id_,) in cursor.fetchall()]
    if not ids:
        return []
    alerts = list(Alert.objects.filter(pk__in=ids, resolved_at__isnull=True).order_by("pk"))
    write_deliveries(alerts)
    return alerts


def resolve_others(kinds: Sequence[AlertKind], findings: Sequence[Finding], *, looked_at: datetime) -> None:
    """Notes that alerts of `kinds` are over which are not among `findings`, and opens again those which are,
    with their present figures.

    Args:
        looked_at: when the look began that has found `findings`.
    """
    values: dict[str, Any] = {
        "now": clock.now(),
        "looked_at": looked_at,
        "kinds": list(kinds),
        "periods": list({finding.period for finding in findings}),
        "findings": _as_json(findings),
    }
    with connection.cursor() as cursor:
        cursor.execute(_RESOLVE, values)
        cursor.execute(_REOPEN, values)


def _as_json(findings: Sequence[Finding]) -> str:
    return json.dumps(
        [
            {
                **{"organization_id": finding.organization_id, "kind": finding.kind},
                **{"period": finding.period, "key": finding.key, "severity": finding.severity},
                **{"figures": dict(finding.figures), "is_news": finding.is_news},
            }
            for finding in findings
        ]
    )


@transaction.atomic
def acknowledge(*, alert: Alert, acting: User, note: str) -> None:
    """Takes an alert from the list of open ones: somebody has seen to it.

    Raises:
        BadRequest: somebody has acknowledged it already.
    """
    unseen = Alert.objects.filter(pk=alert.pk, acknowledged_at__isnull=True)
    if unseen.update(acknowledged_at=clock.now(), acknowledged_by=acting, note=note.strip()) != 1:
        raise BadRequest(_("Somebody has acknowledged this alert already."))
    write_audit_entry(
        organization=alert.organization,
        acting=acting,
        action="alert.acknowledge",
        target=str(alert),
        reason=note.strip(),
    )
