"""Alerts in the admin: what finance sees, acknowledges, where alerts go, and what is sent again."""

from collections.abc import Callable
from typing import Any

import pytest
from django.urls import reverse

from aigov.organizations.models import Organization
from budgets.admin_alerts import SHOWN_AT_HOME
from budgets.alerts import deliveries, destinations, words
from budgets.models import Alert, AlertDelivery, AlertDestination, AlertKind, Severity
from tests.admin_world import (
    add_page,
    as_role,
    change_page,
    errors_of,
    last_audit_entry,
    list_page,
    logged_in,
    person,
    text_of,
)
from tests.alerts_world import raise_alert
from tests.conftest import month_account

Make = Callable[..., Organization]


def raised(organization: Organization | None, percent: int = 80, subject: str = "") -> Alert:
    account = month_account(organization).pk if organization else None
    scope = "user" if subject else "organization"
    alert = raise_alert(
        organization=organization,
        kind=AlertKind.THRESHOLD,
        period="2026-11",
        key=f"{subject} {percent}",
        severity=Severity.WARNING if percent < 100 else Severity.CRITICAL,
        figures={
            **{"percent": percent, "scope": scope, "subject": subject, "account_id": account},
            **{"cap_eur": "1000.000000000", "spent_eur": "812.500000000", "held_eur": "0.000000000"},
        },
    )
    return alert


def press(client: Any, row: Any, button: str, **given: str) -> Any:
    return client.post(change_page(row).replace("/change/", f"/{button}/"), given, follow=True)


# --- Alerts


def test_open_alerts_are_listed_until_they_are_acknowledged(organization: Organization) -> None:
    finance = person("finance", organization)
    client, alert = logged_in(finance), raised(organization)
    listed = text_of(client.get(list_page(Alert)))
    assert words.title(alert) in listed and "warning" in listed
    page = text_of(client.get(change_page(alert)))
    assert change_page(month_account(organization)) in page, "the place to act"
    assert finance.email in page, "whom it went to"
    assert "(&#x27;" not in page
    assert "Acknowledged: 80 %" in text_of(press(client, alert, "acknowledge", note="Raised on Monday."))
    assert (
        words.title(alert)
        not in text_of(client.get(list_page(Alert))).split("messagelist")[0].partition('id="result_list"')[2]
    )
    seen = text_of(client.get(f"{list_page(Alert)}?standing=seen"))
    assert words.title(alert) in seen
    assert last_audit_entry(organization, "alert.acknowledge").reason == "Raised on Monday."
    assert press(client, alert, "acknowledge", note="").status_code == 403


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_who_only_looks_acknowledges_nothing(role: str, organization: Organization) -> None:
    alert = raised(organization)
    client = as_role(role, organization)
    assert "acknowledge/" not in text_of(client.get(change_page(alert)))
    assert press(client, alert, "acknowledge", note="").status_code == 403


def test_the_list_narrows_by_kind_and_state(organization: Organization) -> None:
    client, alert = as_role("finance", organization), raised(organization)
    for query, shown in (("kind__exact=threshold", 1), ("kind__exact=overrun", 0), ("standing=over", 0)):
        listed = client.get(f"{list_page(Alert)}?{query}")
        assert len(listed.context["cl"].result_list) == shown, query
    Alert.objects.filter(pk=alert.pk).update(resolved_at=alert.raised_at)
    assert len(client.get(f"{list_page(Alert)}?standing=over").context["cl"].result_list) == 1
    assert len(client.get(list_page(Alert)).context["cl"].result_list) == 0
    assert len(client.get(f"{list_page(Alert)}?standing=all").context["cl"].result_list) == 1


def test_the_whole_platforms_alerts_are_the_operators(organization: Organization) -> None:
    alert = raise_alert(
        kind=AlertKind.PROVIDER_DOWN,
        period="2026-11-23",
        key=f"openai {organization.pk}",
        severity=Severity.CRITICAL,
        figures={
            "provider": "openai",
            "model": "gpt-4o",
            "reason": "timed_out",
            "since": "2026-11-23T10:00:00Z",
        },
    )
    assert as_role("admin", organization).get(change_page(alert)).status_code == 302
    page = text_of(as_role("operator").get(change_page(alert)))
    assert "Not available: OpenAI gpt-4o" in page and reverse("providers-status") in page


def test_home_shows_the_most_severe_first_and_links_to_the_rest(make_organization: Make) -> None:
    organization = make_organization()
    for at in range(SHOWN_AT_HOME):
        raised(organization, subject=f"u-{at}")
    worst = raised(organization, percent=100)
    page = as_role("finance", organization).get(reverse("admin:index"))
    assert page.context["alerts"][0]["title"] == words.title(worst)
    assert len(page.context["alerts"]) == SHOWN_AT_HOME
    assert "6 open alerts" in text_of(page) and list_page(Alert) in text_of(page)
    stranger = as_role("finance", month_account(organization).organization.__class__.objects.first())
    assert worst.pk not in {
        alert["address"] for alert in stranger.get(reverse("admin:index")).context["alerts"]
    }


def test_home_without_alerts_says_nothing_of_them(organization: Organization) -> None:
    assert "open alert" not in text_of(as_role("finance", organization).get(reverse("admin:index")))


# --- Destinations


def test_finance_adds_a_webhook_and_sees_its_secret_once(organization: Organization) -> None:
    finance = person("finance", organization)
    client = logged_in(finance)
    given = {
        **{"organization": str(organization.pk), "channel": "webhook", "name": "ERP", "reason": "new"},
        **{"address": "https://erp.example.com/hook?token=t0ken", "kinds": ["threshold", "forecast"]},
    }
    said = text_of(client.post(add_page(AlertDestination), given, follow=True))
    made = AlertDestination.objects.get(organization=organization)
    secret = destinations.opened(made).secret
    assert secret.startswith("whsec_") and secret in said.replace("&#x3D;", "=")
    for page in (list_page(AlertDestination), change_page(made)):
        shown = text_of(client.get(page))
        assert "erp.example.com/hook" in shown and secret not in shown and "t0ken" not in shown
    assert made.kinds == ["threshold", "forecast"]
    entry = last_audit_entry(organization, "alert_destination.add")
    assert (entry.actor, entry.reason) == (finance.email, "new")


def test_what_is_no_address_is_said_at_its_field(organization: Organization) -> None:
    given = {"organization": str(organization.pk), "channel": "webhook", "name": "x", "reason": "x"}
    client = as_role("finance", organization)
    refused = client.post(add_page(AlertDestination), {**given, "address": "http://example.com/"})
    assert errors_of(refused) == {"address": ["The address must begin with https://."]}


def test_nobody_adds_one_elsewhere_or_for_the_whole_platform(make_organization: Make) -> None:
    ours, theirs = make_organization(), make_organization()
    client = as_role("finance", ours)
    given = {"channel": "mail", "name": "x", "address": "x@example.com", "reason": "x"}
    for organization in (str(theirs.pk), ""):
        refused = client.post(add_page(AlertDestination), {**given, "organization": organization})
        assert "organization" in errors_of(refused)
    operator = as_role("operator")
    operator.post(add_page(AlertDestination), {**given, "organization": "", "name": f"platform {ours.pk}"})
    made = AlertDestination.objects.get(name=f"platform {ours.pk}")
    assert made.organization is None
    destinations.remove_destination(destination=made, acting="the tests", reason="a test")


def test_a_destination_is_changed_tested_and_removed(organization: Organization) -> None:
    made, _ = destinations.add_destination(
        organization=organization, channel="mail", name="old", address="a@example.com", acting="the tests"
    )
    client = as_role("finance", organization)
    given = {"name": "new", "address": "b@example.com", "kinds": "overrun", "reason": "moved"}
    client.post(change_page(made), given)
    made.refresh_from_db()
    assert (made.name, made.address, made.kinds, made.active) == ("new", "b@example.com", ["overrun"], False)
    assert "is on its way to new" in text_of(press(client, made, "test"))
    [way] = AlertDelivery.objects.filter(organization=organization)
    assert (way.address, way.alert.kind) == ("b@example.com", "test")
    press(client, made, "remove", reason="no longer")
    assert not AlertDestination.objects.filter(pk=made.pk).exists()


def test_a_manager_sees_destinations_and_changes_none(organization: Organization) -> None:
    made, _ = destinations.add_destination(
        organization=organization, channel="mail", name="x", address="a@example.com", acting="the tests"
    )
    client = as_role("manager", organization)
    assert "a@example.com" in text_of(client.get(change_page(made)))
    assert client.post(change_page(made), {"name": "y", "reason": "x"}).status_code == 403
    assert client.get(add_page(AlertDestination)).status_code == 403


# --- Deliveries


def test_what_was_given_up_is_shown_and_sent_again(organization: Organization) -> None:
    finance = person("finance", organization)
    client, alert = logged_in(finance), raised(organization)
    way = alert.deliveries.get()
    AlertDelivery.objects.filter(pk=way.pk).update(
        state="dead", tries=deliveries.TRIES_MAX, last_error="Oh no."
    )
    assert "Oh no." in text_of(client.get(list_page(AlertDelivery)))
    assert "1 given up" in text_of(client.get(list_page(Alert)))
    assert "on its way again" in text_of(press(client, way, "send-again"))
    way.refresh_from_db()
    assert (way.state, way.tries) == ("pending", 0)
    assert "send-again/" not in text_of(client.get(change_page(way)))
    assert last_audit_entry(organization, "alert.send_again").actor == finance.email
