"""The lists of the admin are for people: they fit their window, and are called by what they show."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db.models import Model
from django.utils.text import capfirst

from aigov.organizations.create import create_organization, create_user
from aigov.organizations.models import AuditEntry, Organization
from budgets import accounts, ledger
from budgets.models import Hold
from kpis.digests import subscribe
from kpis.models import DigestSubscription
from routing.models import Decision
from tests.admin_world import admins, as_role, change_page, fill, in_server, list_page, text_of
from tests.conftest import Server, month_account
from tests.test_admin_browser import browser, log_in

LAPTOP = {"width": 1280, "height": 800}
#: How far what the page and its list show stands out to the right, in pixels.
OVERHANG = """() => {
    const list = document.querySelector("#result_list")
    const box = list && (list.closest(".simplebar-content-wrapper") || list.parentElement)
    const page = document.documentElement
    return Math.max(page.scrollWidth - page.clientWidth, box ? box.scrollWidth - box.clientWidth : 0)
}"""


@pytest.fixture(scope="module")
def lived_in(server: Server) -> Iterator[tuple[Organization, list[Model]]]:
    """An organization with a row of each kind, and with long names."""
    name = f"Musterwerk Vertriebsgesellschaft mbH {uuid4().hex[:8]}"
    organization = create_organization(name=name, acting="the tests")
    rows = fill(organization, server)
    accounts.set_month_cap(
        account=month_account(organization),
        cap_eur=Decimal("123456.78"),
        acting="somebody.with-a-long-name@marketing.musterwerk.example",
        reason="The quarter is nearly over, and marketing has stopped its campaign. " * 5,
    )
    yield organization, list(rows.values())
    in_server(server, ledger.void(hold_id=rows[Hold].pk))


def test_no_page_is_wider_than_a_laptops_window(
    lived_in: tuple[Organization, list[Model]], server: Server
) -> None:
    organization, rows = lived_in
    user, password = create_user(
        email=f"{uuid4().hex}@example.com", role="admin", organization=organization, acting="the tests"
    )
    # People see their own alone.
    mine = subscribe(organization=organization, user=user, rhythm="weekly", language="en")
    rows = [mine if isinstance(row, DigestSubscription) else row for row in rows]
    allowed = [model for model in admins() if user.has_perm(view_of(model))]
    addresses = [list_page(model) for model in allowed]
    addresses += [change_page(row) for row in rows if type(row) in allowed]
    overhangs: dict[str, int] = {}
    faults: list[str] = []
    with browser(server, faults) as page:
        page.set_viewport_size(LAPTOP)  # type: ignore[arg-type]
        log_in(page, user.email, password)
        for address in ["/admin/", *addresses, "/admin/providers/status/"]:
            page.goto(address)
            overhangs[address] = page.evaluate(OVERHANG)
    assert {address: px for address, px in overhangs.items() if px > 0} == {}
    assert faults == []


def view_of(model: type[Model]) -> str:
    return f"{model._meta.app_label}.view_{model._meta.model_name}"


@pytest.mark.parametrize("model", list(admins()))
def test_a_list_is_called_by_what_it_shows(model: type[Model]) -> None:
    page = text_of(as_role("operator").get(list_page(model)))
    title = page.partition("<title>")[2].partition("</title>")[0].strip()
    assert title.startswith(capfirst(str(model._meta.verbose_name_plural)).replace("'", "&#x27;"))
    assert "Select " not in title


def test_an_id_keeps_its_small_letters(lived_in: tuple[Organization, list[Model]]) -> None:
    [decision] = [row for row in lived_in[1] if isinstance(row, Decision)]
    assert decision.pk.capitalize() not in text_of(as_role("operator").get(change_page(decision)))


def test_the_audit_trail_counts_rows(lived_in: tuple[Organization, list[Model]]) -> None:
    assert "audit trail</" not in text_of(as_role("admin", lived_in[0]).get(list_page(AuditEntry)))


def test_a_decision_is_shown_in_plain_words(lived_in: tuple[Organization, list[Model]]) -> None:
    [decision] = [row for row in lived_in[1] if isinstance(row, Decision)]
    client = as_role("finance", lived_in[0])
    listed = text_of(client.get(list_page(Decision), {"by_provider": "openai"}))
    assert change_page(decision) in listed
    assert "small model" in listed or "large model" in listed
    assert change_page(decision) not in text_of(client.get(list_page(Decision), {"by_provider": "anthropic"}))
    assert "accepted" in text_of(client.get(change_page(decision)))
