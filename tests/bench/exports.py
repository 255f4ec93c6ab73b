"""A million cost records as files: `python -m tests.bench.exports`.

The records are made by one statement, with true prices, so that the books balance. Each file is made by a
process of its own, whose peak of memory is told; the sums that are read back are the ledger's.

RECORDS  how many (1,000,000)
"""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.bench import stand
from tests.bench.__main__ import set_up

RECORDS = int(os.environ.get("RECORDS", "1000000"))
NAME = "Exports"
KINDS = ("nothing", "statement", "csv", "focus", "xlsx")
ENDINGS = {"statement": "pdf", "xlsx": "xlsx"}
FILES = stand.FOLDER / "exports"

#: Prices and exchange rate are those of the rows that the records name; rounded up once, as the ledger does.
_INSERT = """
INSERT INTO ai_costs (
    organization_id, month, "user", use_case, completion_id, attempt, purpose, provider, model, tier,
    price_id, fx_rate_id, metadata, hold_id, created_at, held_eur, cost_eur, cost_usd, eur_per_usd, estimated,
    overrun, late, reason, service_tier, provider_request_id, input_total, cache_read, cache_write_5m,
    cache_write_1h, output_total, reasoning
)
SELECT %(organization)s, %(month)s, '', (ARRAY['leads', 'offers', 'summaries'])[1 + n %% 3],
    'cmp_' || md5(n::text), 0, 'answer', 'openai', 'gpt-4o-mini', 'small', %(price)s, %(fx)s,
    jsonb_build_object('lead_id', 'L-' || n, 'cost_centre', '4711'), gen_random_uuid(),
    %(begin)s::timestamptz + (%(end)s::timestamptz - %(begin)s::timestamptz) * (n::float / %(records)s),
    1, ceil(usd * %(rate)s * 1e9) / 1e9, usd, %(rate)s, false, false, false, '', 'standard', 'req-' || n,
    input, cached, 0, 0, output, 0
FROM (SELECT n, 200 + n %% 1900 AS input, (n %% 3) * 64 AS cached, 1 + n %% 300 AS output
      FROM generate_series(1, %(records)s) n) used,
     LATERAL (SELECT ((input - cached) * %(input_rate)s + cached * %(cache_rate)s + output * %(output_rate)s)
                     / 1000000 AS usd) priced
"""
_ACCOUNTS = """
INSERT INTO budget_accounts
    (organization_id, month, scope, subject, cap_eur, cap_is_of_month, spent_eur, held_eur)
SELECT organization_id, month, 'use_case', use_case, NULL, false, sum(cost_eur), 0
FROM ai_costs GROUP BY 1, 2, 4
"""
_SPENT = """
UPDATE budget_accounts SET spent_eur = (SELECT sum(cost_eur) FROM ai_costs) WHERE scope = 'organization'
"""


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(_made(sys.argv[1])))
        return
    with stand.services(9):
        set_up()
        _fill()
        FILES.mkdir(exist_ok=True)
        print(f"{RECORDS:,} cost records; load average {os.getloadavg()[0]:.1f}")
        for kind in KINDS:
            said = subprocess.run(
                [sys.executable, "-m", "tests.bench.exports", kind],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(said.stdout)
            print(
                f"{kind:10} {found['seconds']:8.1f} s  {found['cpu_s']:8.1f} CPU s  {found['size_mb']:8.1f}"
                f" MB  first byte after {found['first_s']:6.2f} s  peak {found['peak_mb']:4.0f} MB of memory",
                flush=True,
            )


def _fill() -> None:
    from django.db import connection

    from aigov import clock
    from budgets import ledger
    from budgets.models import FxRate
    from providers.models import Price
    from tests.bench import world
    from tests.ledger_world import this_month

    world.migrated()
    organization = world.make_organization(NAME)
    price = Price.objects.filter(provider="openai", model="gpt-4o-mini", service_tier="standard").latest("id")
    fx, month = FxRate.objects.latest("id"), this_month(organization)
    band = price.bands[0]
    given = {
        **{
            "organization": organization.pk,
            "month": month,
            "price": price.pk,
            "fx": fx.pk,
            "records": RECORDS,
        },
        **{
            "begin": clock.month_start(month, organization.time_zone),
            "end": clock.now(),
            "rate": fx.eur_per_unit,
        },
        **{f"{name}_rate": Decimal(band[key]) for name, key in (("input", "input"), ("output", "output"))},
        "cache_rate": Decimal(band["cache_read"]),
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, given)
        cursor.execute(_ACCOUNTS)
        cursor.execute(_SPENT)
        cursor.execute("ANALYZE")
    if ledger.differences():
        raise SystemExit("The records do not add up: nothing measured here counts.")


def _made(kind: str) -> dict[str, Any]:
    """Makes the file, and tells what it took; reads its sum back afterwards."""
    set_up()
    began, first, path = time.perf_counter(), 0.0, FILES / f"{kind}.{ENDINGS.get(kind, 'csv')}"
    with open(path, "wb") as file:
        for chunk in _chunks(kind):
            first = first or time.perf_counter() - began
            file.write(chunk)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": time.perf_counter() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "first_s": first,
        "peak_mb": _peak_mb(),
        "size_mb": path.stat().st_size / 2**20,
    }
    _check(kind, path)
    return found


def _peak_mb() -> float:
    """Of this process alone: what `getrusage` says begins with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _chunks(kind: str) -> Iterable[bytes]:
    from django.contrib import admin
    from django.http import HttpRequest

    from aigov.organizations import exports
    from aigov.organizations.lists import list_table
    from aigov.organizations.models import Organization, User
    from budgets.charge_days import last_day
    from budgets.models import BudgetAccount, CostRecord
    from budgets.statement.figures import statement
    from budgets.statement.pdf import statement_pdf
    from kpis.exports import focus_chunks

    account = BudgetAccount.objects.get(scope="organization")
    if kind == "focus":
        organizations = Organization.objects.select_related("tenant")
        return focus_chunks(organizations, account.month, last_day(account.month))
    if kind == "statement":
        return [statement_pdf(statement(account))]
    if kind == "nothing":
        return []
    request = HttpRequest()
    request.method, request.user = "GET", User(is_superuser=True, is_active=True)
    return exports.chunks(list_table(admin.site.get_model_admin(CostRecord), request), kind)


def _check(kind: str, path: Path) -> None:
    from budgets.models import BudgetAccount

    column = {"csv": "Cost", "focus": "BilledCost"}.get(kind)
    if column is None:
        return
    with open(path, encoding="utf-8-sig", newline="") as file:
        total = sum((Decimal(row[column]) for row in csv.DictReader(file)), Decimal(0))
    if total != BudgetAccount.objects.get(scope="organization").spent_eur:
        raise SystemExit(f"The sum of {path} is not the ledger's.")


if __name__ == "__main__":
    main()
