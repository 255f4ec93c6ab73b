"""The leads and orders that the demo's traffic names, as a CRM would report them."""

import random
from collections.abc import Sequence

from aigov import clock
from aigov.demo.corpus import Job
from aigov.demo.season import order_value
from aigov.money import ZERO
from aigov.organizations.models import Organization
from kpis.outcomes import Told, record_table


def report_named(*, organization: Organization, jobs: Sequence[Job], acting: str) -> None:
    """Records each lead and order that a job names, as of now."""
    now, dice = clock.now(), random.Random(len(jobs))
    named = {
        (kind, job.body["metadata"][f"{kind}_id"]): order_value(dice) if kind == "order" else ZERO
        for job in jobs
        for kind in ("lead", "order")
        if f"{kind}_id" in job.body["metadata"]
    }
    outcomes = [Told(kind, name, now, value) for (kind, name), value in named.items()]
    record_table(organization=organization, outcomes=outcomes, acting=acting)
