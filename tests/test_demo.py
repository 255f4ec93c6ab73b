"""The demo: its texts, its cast, its table, and the whole of it as a user starts it."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.contrib.auth import authenticate

from aigov import clock
from aigov.demo import cast, corpus, figures, reported, season
from aigov.demo.corpus import Job
from aigov.demo.prices import load_prices
from aigov.demo.traffic import Answer
from aigov.organizations.keys import revoke_api_key
from aigov.organizations.models import ApiKey, Organization, User
from aigov.processes import SOURCE_FOLDER
from budgets.models import BudgetAccount, CostRecord
from kpis import queries
from kpis.models import Outcome
from kpis.periods import Period

DEMO_WAIT_S = 240


# --- Texts


def test_the_corpus_is_large_and_every_label_is_one_of_the_allowed() -> None:
    texts = corpus.texts()
    assert len({text.text for text in texts}) == len(texts) >= 120
    assert {text.language for text in texts} == {"de", "en"}
    for text in texts:
        assert (text.right_label in text.labels) if text.labels else text.right_label is None


def test_a_run_repeats_itself_and_the_next_one_does_not() -> None:
    assert corpus.jobs(300, run=1) == corpus.jobs(300, run=1)
    first, second = ({str(job.body["messages"]) for job in corpus.jobs(300, run=run)} for run in (1, 2))
    assert not first & second


@pytest.mark.parametrize("count", [1, 7, 300, 1000])
def test_a_run_has_as_many_jobs_as_asked_and_some_of_them_twice(count: int) -> None:
    jobs = corpus.jobs(count, run=3)
    prompts = Counter(str(job.body["messages"]) for job in jobs)
    assert len(jobs) == count
    assert len(prompts) == count - int(count * corpus.REPEATED_SHARE)


# --- The table


def answer(route: str, *, right: str | None = "A", **more: Any) -> Answer:
    """An answer of `route` whose label is A, and whose large call cost 0.004 euro, if it had one."""
    attempts = [{"tier": "small", "outcome": "accepted", "cost_eur": "0.0001"}]
    if route == "large":
        attempts = [
            {"tier": "small", "outcome": "low_confidence", "cost_eur": "0.0001"},
            {"tier": "large", "outcome": "accepted", "cost_eur": "0.004"},
        ]
    body = {
        "id": f"cmp_{route}",
        "route": route,
        "tier": "large" if route == "large" else "small",
        "provider": "openai",
        "content": "A",
        "cached": route == "cache",
        "cost_eur": str(sum((Decimal(attempt["cost_eur"]) for attempt in attempts), Decimal(0))),
        "attempts": attempts,
        "usage": {"input_total": 100, "output_total": 1, "cache_read": 0, "cache_write": 0, "reasoning": 0},
        **more,
    }
    return Answer(Job({}, right), 200, body)


ALL_LARGE = {"cmp_small": Decimal("0.002"), "cmp_cache": Decimal("0.002"), "cmp_large": Decimal("0.004")}


def test_the_figures_add_up() -> None:
    refused = Answer(Job({}, "A"), 402, {"error": {"code": "organization_budget_exceeded"}})
    lost = Answer(Job({}, None), 0, {"error": {"code": "no_answer"}})
    bare = Answer(Job({}, None), 500, {})
    found = figures.add_up(
        [answer("small"), answer("small", right="B"), answer("large", right=None), refused, lost, bare],
        ALL_LARGE,
    )
    assert (found.total.answers, found.total.right, found.total.judged) == (3, 1, 2)
    assert found.lines["small"].cost_eur == Decimal("0.0002")
    assert found.total.cost_eur == Decimal("0.0043")
    assert found.all_large_eur == Decimal("0.008")
    assert found.saved_eur == Decimal("0.0037")
    assert found.escalated == 1
    assert found.unanswered == {"organization_budget_exceeded": 1, "no_answer": 1, "status 500": 1}


def test_a_cached_answer_saves_its_whole_large_price() -> None:
    free = answer("cache", tier="large", cost_eur="0", attempts=[])
    found = figures.add_up([free], ALL_LARGE)
    assert (found.lines["cache"].answers, found.saved_eur) == (1, Decimal("0.002"))


BUDGET = {"month": "2026-11", "limit_eur": "1000.00", "spent_eur": "0.0043", "remaining_eur": "999.9957"}


def test_the_table_fits_on_a_terminal() -> None:
    jobs = [answer("small"), answer("large"), Answer(Job({}, None), 503, {"error": {"code": "no_provider"}})]
    lines = list(figures.table(figures.add_up(jobs, ALL_LARGE), BUDGET))
    assert max(map(len, lines)) <= 80
    assert "Not answered: 1 (no_provider)" in lines
    assert any(re.fullmatch(r"saved +0\.001800 EUR  \(30 %\)", line) for line in lines)
    assert any(re.fullmatch(r"left +999\.995700 EUR", line) for line in lines)


def test_a_table_without_any_answer_is_one_too() -> None:
    lines = list(figures.table(figures.Figures(), BUDGET))
    assert any(re.fullmatch(r"total +0 +– +0\.000000 +–", line) for line in lines)


# --- The past


def test_the_season_is_believable_marked_and_balanced(organization: Organization) -> None:
    prices = asyncio.run(load_prices(organization.pk))
    requests = season.play_season(organization=organization, prices=prices, acting="the tests")
    assert season.play_season(organization=organization, prices=prices, acting="the tests") == 0
    found = queries.figures([organization.pk], _last_days(organization, season.DAYS))
    assert sum((found.requests.answered, found.requests.failed)) == requests > 4_000
    records = CostRecord.objects.filter(organization=organization)
    assert not records.exclude(reason=season.REMARK, metadata__demo=True).exists()
    assert found.business.cost_eur == sum(records.values_list("cost_eur", flat=True))
    spent = BudgetAccount.objects.filter(organization=organization, scope="organization")
    assert all(account.spent_eur < 1000 for account in spent)
    assert 1.5 < (found.savings_factor or 0) < 10
    assert found.business.outcomes.leads > found.business.outcomes.orders > 50
    outcomes = Outcome.objects.filter(organization=organization)
    for kind in ("lead", "order"):
        reported_ids = set(outcomes.filter(kind=kind).values_list("external_id", flat=True))
        named_ids = set(records.values_list(f"metadata__{kind}_id", flat=True)) - {None}
        assert len(named_ids) > 20
        assert named_ids <= reported_ids
    for share in (found.requests.availability_without_fallback, found.requests.escalation_rate):
        assert 0 < (share or 0) < 1


def test_what_the_traffic_names_is_reported(organization: Organization) -> None:
    jobs = corpus.jobs(200, run=1)
    reported.report_named(organization=organization, jobs=jobs, acting="the tests")
    named = {job.body["metadata"].get(f"{kind}_id") for job in jobs for kind in ("lead", "order")} - {None}
    outcomes = Outcome.objects.filter(organization=organization)
    assert set(outcomes.values_list("external_id", flat=True)) == named
    assert all(outcome.value_eur > 0 for outcome in outcomes.filter(kind="order"))


def _last_days(organization: Organization, days: int) -> Period:
    today = clock.day_of(clock.now(), organization.time_zone)
    return Period(today - timedelta(days=days), today)


# --- The cast


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and an organization and people of its own."""
    name = tmp_path.name
    monkeypatch.setattr(cast, "ORGANIZATION", f"Demo {name}")
    monkeypatch.setattr(cast, "TENANT", f"Demo tenant {name}")
    people = {f"{role}@{name.replace('_', '-')}.example": role for role in cast.PEOPLE.values()}
    monkeypatch.setattr(cast, "PEOPLE", people)
    return tmp_path


def test_the_cast_is_created_once_and_can_log_in(folder: Path) -> None:
    first = cast.assemble(folder)
    assert cast.assemble(folder) == first
    assert (folder / cast.FILE).stat().st_mode & 0o077 == 0
    assert ApiKey.objects.filter(organization_id=first.organization_id).count() == 1
    assert {login.role for login in first.logins} == {"finance", "manager", "auditor", "admin", "operator"}
    login = first.logins[0]
    assert authenticate(username=login.email, password=login.password) == User.objects.get(email=login.email)


def test_a_lost_or_broken_file_is_written_anew(folder: Path) -> None:
    first = cast.assemble(folder)
    for text in ("", "{", "[]", '{"api_key": "x"}'):
        (folder / cast.FILE).write_text(text, encoding="utf-8")
        again = cast.assemble(folder)
        assert again.organization_id == first.organization_id
        assert again.api_key != first.api_key
        assert again.logins[0].password != first.logins[0].password
        assert cast.assemble(folder) == again


def test_what_was_changed_since_is_replaced(folder: Path) -> None:
    first = cast.assemble(folder)
    key = ApiKey.objects.get(organization_id=first.organization_id)
    revoke_api_key(api_key=key, acting="the tests", reason="a test")
    person = User.objects.get(email=first.logins[1].email)
    person.set_password("another password")
    person.save()
    again = cast.assemble(folder)
    assert again.api_key != first.api_key
    assert again.logins[0] == first.logins[0]
    assert again.logins[1] != first.logins[1]


def test_a_file_of_another_database_is_not_believed(folder: Path) -> None:
    first = cast.assemble(folder)
    cast.keep(replace(first, organization_id=first.organization_id + 1), folder)
    again = cast.assemble(folder)
    assert (again.organization_id, again.api_key == first.api_key) == (first.organization_id, False)


# --- All of it


@pytest.mark.slow
def test_the_demo_shows_its_table_and_ends(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "AIGOV_DATA_DIR": str(tmp_path / "data"),
        "PORT": "0",
        "WEB_WORKERS": "1",
        "DATABASE_URL": "",
        "REDIS_URL": "",
        **dict.fromkeys(("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"), ""),
    }
    command = [sys.executable, str(SOURCE_FOLDER / "manage.py"), "demo", "--exit", "--requests", "40"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DEMO_WAIT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^total +40 +100 %", done.stdout, re.MULTILINE)
    assert re.search(r"^saved +0\.\d+ EUR", done.stdout, re.MULTILINE)
    assert "Not answered" not in done.stdout
    address = re.search(r"http://\S+", done.stdout)
    assert address
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(address[0])
