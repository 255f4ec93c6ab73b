"""What routing does on its own, by Celery."""

from collections.abc import Iterator
from datetime import date, timedelta

from celery import shared_task
from django.db.models import Case, CharField, F, Max, Value, When

from aigov import clock
from budgets.alerts import evaluation
from budgets.models import Scope
from routing.models import Decision

#: Refusals are looked for this far back, should no worker have run.
SINCE = timedelta(hours=1)
#: What the codes of refusals by a cap end with, after its scope; not of those by calls in flight.
BY_CAP = "_budget_exceeded"


@shared_task  # type: ignore[untyped-decorator]
def notice_refusals() -> None:
    """Has finance told of the accounts whose caps have refused calls; every minute."""
    evaluation.notice_refusals(_refusing_accounts())


def _refusing_accounts() -> Iterator[tuple[int, date, Scope, str]]:
    """Organization, month, scope and subject of each account that has refused a call lately; one query."""
    subject = Case(
        When(error_code=f"{Scope.USER}{BY_CAP}", then=F("user")),
        When(error_code=f"{Scope.USE_CASE}{BY_CAP}", then=F("use_case")),
        default=Value(""),
        output_field=CharField(),
    )
    refused = Decision.objects.filter(error_code__endswith=BY_CAP, created_at__gte=clock.now() - SINCE)
    accounts = refused.order_by().annotate(subject=subject)
    columns = ("organization", "organization__time_zone", "error_code", "subject")
    latest_of = accounts.values(*columns).annotate(latest=Max("created_at"))
    for id_, zone, code, whose, latest in latest_of.values_list(*columns, "latest"):
        yield id_, clock.month_of(latest, zone), Scope(code.removesuffix(BY_CAP)), whose
