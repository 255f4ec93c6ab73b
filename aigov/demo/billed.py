"""The demo's bills: the sandbox is told of the calls that were made up, so that bill and ledger compare."""

from datetime import timedelta
from typing import Any

import httpx2
from django.conf import settings

from aigov import clock
from aigov.demo.season import DAYS, REMARK
from aigov.organizations.models import Organization
from budgets import bill_watch
from budgets.models import CostRecord

BATCH_CALLS = 2_000
SANDBOX_KEY = "sandbox"
ANSWER_WAIT_S = 30.0


def bill_season(organization: Organization) -> None:
    """Puts the organization's made-up calls on the sandbox's bill; real providers are told nothing."""
    provider = settings.PROVIDERS.get("anthropic", {})
    if provider.get("api_key") != SANDBOX_KEY:
        return
    records = CostRecord.objects.filter(organization=organization, reason=REMARK).order_by("id")
    calls = [_call(record) for record in records.iterator()]
    with httpx2.Client(base_url=provider["base_url"] or "", timeout=ANSWER_WAIT_S) as sandbox:
        for start in range(0, len(calls), BATCH_CALLS):
            sandbox.post("/sandbox/usage", json=calls[start : start + BATCH_CALLS]).raise_for_status()


def _call(record: CostRecord) -> dict[str, Any]:
    """A call as its provider meters it; none of them has used a provider's cache."""
    names = ("prompt_tokens", "completion_tokens")
    if record.provider == "anthropic":
        names = ("input_tokens", "output_tokens")
    usage = dict(zip(names, (record.input_total, record.output_total), strict=True))
    told = {"provider": record.provider, "model": record.model, "at": record.created_at.timestamp()}
    return {**told, "usage": usage}


def read_bills() -> None:
    """Reads the bills of the season and of today as far as they go."""
    today = clock.now().date()
    bill_watch.import_days(today - timedelta(days=DAYS), today)
