"""The dashboards' pages: who sees whose figures, what the address asks for, and that all tell the same."""

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.translation import override

from aigov import clock
from aigov.demo.past import write_past
from aigov.money import euro_for_people
from aigov.organizations.create import create_organization
from aigov.organizations.models import Member, Organization, Role
from kpis.definitions import DEFINITIONS
from kpis.filters import month_period
from kpis.outcomes import Told, record_outcomes
from kpis.pages import PAGES
from kpis.queries import figures
from providers.circuit_history import record_turns
from providers.models import CircuitTurn
from tests.admin_world import as_role, logged_in, person, text_of
from tests.dashboards_world import write_history
from tests.kpis_world import cost_record

OURS = "Dashboards & sons"
WAYS_IN = [reverse("kpis:page", args=[name]) for name in PAGES]
EVERY_PAGE = [*WAYS_IN, reverse("kpis:definitions")]
NUMBER_CELL = re.compile(r'<(?:td|th)[^>]*class="is-number"[^>]*>([^<]*)<')


@pytest.fixture(scope="module")
def ours(database: None) -> Organization:
    """An organization with a history."""
    made = create_organization(name=OURS, acting="the tests")
    write_history(made, days=40, calls_a_day=12)
    return made


def export_address(page: str, figure: str) -> str:
    return reverse("kpis:export", args=[page, figure, "csv"])


def rows_of(response: Any) -> list[list[str]]:
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text)))


# --- Who


@pytest.mark.parametrize("address", [*EVERY_PAGE, reverse("kpis:home"), export_address("cache", "hit-rate")])
def test_nobody_enters_without_logging_in(address: str) -> None:
    response = Client().get(address)
    assert response.status_code == 302
    assert response.headers["location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("role", [*Role.values, "operator"])
def test_every_role_sees_its_organizations_figures(role: str, ours: Organization) -> None:
    client = as_role(role, ours)
    chosen = {"organization": str(ours.pk)}
    for address in (*WAYS_IN[:2], EVERY_PAGE[-1]):
        assert client.get(address, chosen).status_code == 200, address
    spent = figures([ours.pk], month_period(clock.now().date()).period).business.cost_eur
    with override("en"):
        assert euro_for_people(spent) in text_of(client.get(WAYS_IN[0], chosen))


def test_who_has_no_role_is_told_so() -> None:
    client = as_role(None)
    for address in WAYS_IN:
        assert "no role in any organization" in text_of(client.get(address))
    assert client.get(export_address("cache", "hit-rate")).status_code == 404


@pytest.mark.parametrize("role", ["admin", "auditor"])
def test_a_stranger_sees_nothing_of_ours(
    role: str, ours: Organization, make_organization: Callable[..., Organization]
) -> None:
    client = as_role(role, make_organization())
    for query in ({}, {"organization": str(ours.pk)}, {"use_case": "lead_classification"}):
        for address in WAYS_IN:
            page = text_of(client.get(address, query))
            assert "Dashboards" not in page
            assert 'class="plot"' not in page
    assert rows_of(client.get(export_address("usage", "users"), {"organization": str(ours.pk)}))[1:] == []


def test_a_person_of_two_organizations_sees_both_or_one(
    ours: Organization, make_organization: Callable[..., Organization]
) -> None:
    other = make_organization()
    write_history(other, days=1, calls_a_day=5)
    user = person("manager", ours)
    Member.objects.create(user=user, organization=other, role="auditor")
    client = logged_in(user)

    def costs(**query: str) -> Decimal:
        rows = rows_of(client.get(export_address("usage", "use-cases"), query))
        return sum((Decimal(row[1]) for row in rows[1:]), Decimal(0))

    alone, theirs = costs(organization=str(ours.pk)), costs(organization=str(other.pk))
    assert alone and theirs
    assert costs() == alone + theirs


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_nothing_is_changed_here(method: str, ours: Organization) -> None:
    assert getattr(as_role("admin", ours), method)(WAYS_IN[0]).status_code == 405


# --- What


@pytest.mark.parametrize(
    "address",
    ["/kpis/nothing/", "/kpis/cache/nothing.csv", "/kpis/cache/hit-rate.exe", "/kpis/nothing/hit-rate.csv"],
)
def test_what_is_not_there_is_not_found(address: str, ours: Organization) -> None:
    assert as_role("finance", ours).get(address).status_code == 404


def test_home_leads_to_the_overview_with_the_whole_state(ours: Organization) -> None:
    response = as_role("finance", ours).get("/kpis/?period=2026-10")
    assert response.headers["location"] == f"{WAYS_IN[0]}?period=2026-10"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("period=x", "Period: “x” is no month"),
        ("from=2026-11-31&to=2026-11-03", "From: “2026-11-31” is no day"),
        ("organization=999999999", "Organization: none that the address names"),
        ("compare=%3Cb%3E", "Compare: “<b>” is neither"),
    ],
)
def test_nonsense_in_the_address_is_told_in_words(query: str, message: str, ours: Organization) -> None:
    response = as_role("finance", ours).get(f"{WAYS_IN[0]}?{query}")
    assert response.status_code == 200
    page = text_of(response)
    assert message in unescape(page)
    assert "<b>" not in page


@pytest.mark.parametrize("query", ["period=2023-01", "use_case=nobody's", "from=2026-11-01&to=2026-11-01"])
def test_pages_without_figures_say_what_to_do(
    query: str, make_organization: Callable[..., Organization]
) -> None:
    client = as_role("manager", make_organization())
    for address in WAYS_IN:
        page = text_of(client.get(f"{address}?{query}"))
        assert 'class="plot"' not in page
        assert 'class="empty"' in page
        assert "plotly-basic" not in page


def test_a_table_has_the_figures_numbers_and_so_has_its_file(ours: Organization) -> None:
    client = as_role("finance", ours)
    for name, page in PAGES.items():
        response = client.get(reverse("kpis:page", args=[name]))
        shown = {figure["name"]: figure for figure in response.context["figures"]}
        assert set(shown) <= set(page.figures)
        for figure, drawn in shown.items():
            exported = rows_of(client.get(export_address(name, figure)))
            assert exported[0] == [column.title for column in drawn["columns"]]
            assert len(exported) - 1 == len(drawn["rows"])


def test_the_files_days_add_up_to_the_card(ours: Organization) -> None:
    client = as_role("finance", ours)
    query = {"organization": str(ours.pk)}
    rows = rows_of(client.get(export_address("overview", "cost-over-time"), query))
    total = sum((Decimal(cell) for row in rows[1:] for cell in row[1:]), Decimal(0))
    assert total == figures([ours.pk], month_period(clock.now().date()).period).business.cost_eur
    running = rows_of(client.get(export_address("overview", "cost-against-cap"), query))
    assert [row[1] for row in running[1:] if row[1]][-1] == f"{total:f}"


def test_a_use_case_narrows_the_figures(ours: Organization) -> None:
    client = as_role("finance", ours)
    rows = rows_of(client.get(export_address("usage", "use-cases"), {"use_case": "reply_draft"}))
    assert [row[0] for row in rows[1:]] == ["reply_draft"]
    page = client.get(reverse("kpis:page", args=["usage"]), {"use_case": "reply_draft"})
    assert "users" not in {figure["name"] for figure in page.context["figures"]}


def test_a_use_case_leads_to_its_requests_in_the_admin(ours: Organization) -> None:
    client = as_role("finance", ours)
    page = client.get(reverse("kpis:page", args=["usage"]))
    use_cases, users = (figure["rows"] for figure in page.context["figures"][:2])
    for rows, column in ((use_cases, "use_case"), (users, "user")):
        listed = client.get(rows[0][0].address)
        assert listed.status_code == 200
        shown = listed.context["cl"].result_list
        assert {getattr(row, column) for row in shown} == {rows[0][0].text}


def test_the_last_use_case_list_entry_without_a_name_leads_on_too(ours: Organization) -> None:
    page = as_role("finance", ours).get(reverse("kpis:page", args=["usage"]))
    (nameless,) = (row for row in page.context["figures"][0]["rows"] if row[0].text == "without a use case")
    shown = as_role("finance", ours).get(nameless[0].address).context["cl"].result_list
    assert {row.use_case for row in shown} == {""}


def test_every_definition_is_shown_and_every_figure_leads_to_one(ours: Organization) -> None:
    client = as_role("finance", ours)
    page = text_of(client.get(reverse("kpis:definitions")))
    assert all(f'id="{name}"' in page for name in DEFINITIONS)
    for address in WAYS_IN:
        for figure in client.get(address).context["figures"]:
            assert figure["definition"] in DEFINITIONS


def test_a_lead_named_on_several_days_of_a_month_counts_once_in_it(organization: Organization) -> None:
    days = [datetime(2026, 5, day, 12, tzinfo=UTC) for day in (5, 6, 7)]
    named = [cost_record(organization, day, Decimal(1), metadata={"lead_id": "L-1"}) for day in days]
    write_past(organization=organization, records=named, decisions=[])
    span = {"period": "range", "from": "2026-04-01", "to": "2026-08-31"}
    client = as_role("finance", organization)
    rows = rows_of(client.get(export_address("business", "direct-cost-per-lead"), span))
    assert [Decimal(row[1]) for row in rows[1:] if row[1]] == [Decimal(3)]


def test_the_return_on_spend_runs_up_to_the_card(organization: Organization) -> None:
    days = [datetime(2026, 5, day, 12, tzinfo=UTC) for day in (4, 5, 6)]
    costs = [Decimal("0.3"), Decimal("1.7"), Decimal(2)]
    write_past(
        organization=organization,
        records=[cost_record(organization, day, cost) for day, cost in zip(days, costs, strict=True)],
        decisions=[],
    )
    # Too little is spent on the first day for an order to say much.
    told = [Told("order", f"O-{day.day}", day, Decimal(5)) for day in days[::2]]
    record_outcomes(organization=organization, outcomes=told, acting="the tests")
    asked = {"period": "2026-05"}
    client = as_role("finance", organization)
    rows = rows_of(client.get(export_address("business", "return-on-spend"), asked))
    known = [row for row in rows[1:] if row[1]]
    assert (known[0][0], {float(row[1]) for row in known}) == ("2026-05-05", {2.5})


def test_a_cap_far_above_the_columns_is_told_and_not_drawn(organization: Organization) -> None:
    def shown(cost: int) -> tuple[str, str]:
        record = cost_record(organization, datetime(2026, 5, 5, 12, tzinfo=UTC), Decimal(cost))
        write_past(organization=organization, records=[record], decisions=[])
        page = as_role("finance", organization).get(WAYS_IN[0], {"period": "2026-05"})
        figure = page.context["figures"][0]
        return figure["note"], str(figure["plot_json"])

    # A cap of 1,000 euro is 32 a day.
    note, drawn = shown(cost=1)
    assert note.startswith("Cap, spread evenly") and "spread evenly" not in drawn
    note, drawn = shown(cost=40)
    assert note == "" and "spread evenly" in drawn


def test_the_rests_of_the_models_that_were_called_are_shown(ours: Organization) -> None:
    at = clock.now().replace(day=1, hour=0) + timedelta(minutes=1)
    circuit = {"provider": "openai", "switch": "automatic", "reason": "server_error"}
    record_turns(
        CircuitTurn(**circuit, model=model, at=at + timedelta(seconds=after), retry_at=retry_at)
        for model in ("gpt-4o-mini", "never-called")
        for after, retry_at in ((0, at + timedelta(seconds=5)), (7, None))
    )
    rows = rows_of(as_role("manager", ours).get(export_address("reliability", "circuits")))
    # Circuits are the service's, and other tests turn them, too.
    assert [row[1:3] + row[5:] for row in rows[1:] if row[3] < (at + timedelta(minutes=1)).isoformat()] == [
        ["gpt-4o-mini", "Being tried", "2.0", "it answered with errors"],
        ["gpt-4o-mini", "Resting", "5.0", "it answered with errors"],
    ]


def test_the_admin_and_the_dashboards_lead_to_each_other(ours: Organization) -> None:
    client = as_role("manager", ours)
    assert f'href="{reverse("kpis:home")}"' in text_of(client.get(reverse("admin:index")))
    assert f'href="{reverse("admin:index")}"' in text_of(client.get(WAYS_IN[0]))


def test_a_german_reads_german_figures(ours: Organization) -> None:
    client = logged_in(person("finance", ours), accept_language="de")
    page = text_of(client.get(WAYS_IN[0]))
    assert '<html lang="de">' in page
    assert any("," in cell and cell.endswith("\N{NO-BREAK SPACE}€") for cell in NUMBER_CELL.findall(page))
    assert '"separators": ",."' in page


#: Session, person, organizations, settings; and for each question the watermark of its roll-up, and the rows.
QUERIES = {
    "overview": 22,
    "business": 18,
    "routing": 17,
    "quality": 4,
    "reliability": 20,
    "cache": 8,
    "usage": 14,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_costs_a_fixed_number_of_queries(
    name: str, ours: Organization, make_organization: Callable[..., Organization]
) -> None:
    user = person("finance", ours)
    for _ in range(3):
        Member.objects.create(user=user, organization=make_organization(), role="finance")
    client = logged_in(user)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(reverse("kpis:page", args=[name])).status_code == 200
    assert len(queries) == QUERIES[name], [query["sql"][:160] for query in queries]
