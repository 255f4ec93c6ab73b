"""The settings in the admin."""

from collections.abc import Callable
from typing import Any

import pytest

from aigov.organizations.models import Organization
from aigov.registry.models import SettingValue
from aigov.registry.values import set_value
from tests.admin_world import (
    add_page,
    as_role,
    change_page,
    errors_of,
    last_audit_entry,
    list_page,
    text_of,
)
from tests.conftest import month_account

THRESHOLD = "ai.routing.confidence.threshold"


def form(home: Organization, **more: Any) -> dict[str, Any]:
    given = {"key": THRESHOLD, "scope": "organization", "organization": home.pk, "user": ""}
    return {**given, "new_value": "0.8", "reason": "a test", **more}


def test_a_value_is_set_changed_and_removed_with_its_reasons(organization: Organization) -> None:
    client = as_role("admin", organization)
    client.post(add_page(SettingValue), form(organization, reason="more certain"))
    setting = SettingValue.objects.get(organization=organization)
    assert (setting.key, setting.value, setting.scope) == (THRESHOLD, 0.8, "organization")
    assert last_audit_entry(organization, "setting.set").reason == "more certain"

    page = text_of(client.get(change_page(setting)))
    assert "How confident a small model" in page
    client.post(change_page(setting), {"new_value": "0.9", "reason": "even more"})
    setting.refresh_from_db()
    assert setting.value == 0.9
    assert last_audit_entry(organization, "setting.set").before == 0.8

    address = change_page(setting).replace("/change/", "/remove/")
    assert "reason" in errors_of(client.post(address, {"reason": ""}))
    client.post(address, {"reason": "enough"})
    assert not SettingValue.objects.filter(pk=setting.pk).exists()
    assert last_audit_entry(organization, "setting.remove").reason == "enough"


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"new_value": "1.5"}, "new_value", "1.5"),
        ({"new_value": "PT30M"}, "new_value", "This is not JSON"),
        ({"new_value": "[" * 30_000}, "new_value", "nested too deep"),
        ({"new_value": ""}, "new_value", "required"),
        ({"key": "ai.no.such.key"}, "key", "Select a valid choice"),
        ({"scope": "user"}, "user", "needs a user"),
        ({"user": "u-1"}, "user", "takes no user"),
        ({"organization": ""}, "organization", "choose an organization"),
        ({"scope": "global"}, "scope", "Select a valid choice"),
        ({"reason": ""}, "reason", "Please give a reason"),
        (
            {"key": "ai.budget.use_case.monthly.caps", "new_value": '{"support": -1}'},
            "new_value",
            "value.support",
        ),
        (
            {"key": "ai.providers.openai.models", "new_value": '{"small": 5}'},
            "new_value",
            "value.small",
        ),
    ],
)
def test_a_bad_value_is_named_at_its_field_by_its_path(
    organization: Organization, wrong: dict[str, str], field: str, words: str
) -> None:
    client = as_role("admin", organization)
    errors = errors_of(client.post(add_page(SettingValue), form(organization, **wrong)))
    assert list(errors) == [field]
    assert words in errors[field][0]
    assert not SettingValue.objects.filter(organization=organization).exists()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("ai.routing.large.use_cases", "[]", []),
        ("ai.budget.use_case.monthly.caps", "{}", {}),
        ("ai.budget.user.monthly.cap", "null", None),
        ("ai.cache.ttl", '"PT1H"', "PT1H"),
    ],
)
def test_nothing_in_a_list_or_an_object_is_a_value_too(
    organization: Organization, key: str, text: str, value: Any
) -> None:
    client = as_role("admin", organization)
    client.post(add_page(SettingValue), form(organization, key=key, new_value=text))
    setting = SettingValue.objects.get(organization=organization)
    assert setting.value == value
    assert f">{text}</textarea>".replace('"', "&quot;") in text_of(client.get(change_page(setting))).replace(
        ">\n", ">"
    )


def test_a_standing_cap_reaches_the_open_month(organization: Organization) -> None:
    month_account(organization)
    client = as_role("admin", organization)
    client.post(add_page(SettingValue), form(organization, key="ai.budget.monthly.cap", new_value='"750"'))
    assert month_account(organization).cap_eur == 750


def test_an_operator_sets_a_tenants_value_and_one_for_everybody(
    make_organization: Callable[..., Organization],
) -> None:
    organization = make_organization()
    client = as_role("operator")
    given = form(organization, key="ai.cache.ttl", new_value='"PT8H"', organization="")
    client.post(add_page(SettingValue), {**given, "scope": "tenant", "tenant": organization.tenant_id})
    assert SettingValue.objects.get(tenant=organization.tenant).value == "PT8H"
    client.post(add_page(SettingValue), {**given, "scope": "global", "tenant": ""})
    shared = SettingValue.objects.get(key="ai.cache.ttl", scope="global")
    client.post(change_page(shared).replace("/change/", "/remove/"), {"reason": "clean up"})
    assert not SettingValue.objects.filter(pk=shared.pk).exists()


def test_the_list_explains_every_setting(organization: Organization) -> None:
    page = text_of(as_role("admin", organization).get(list_page(SettingValue)))
    assert f"{add_page(SettingValue)}?key={THRESHOLD}" in page
    assert "600 to 1,200 is usual" in page
    looked_at = text_of(as_role("auditor", organization).get(list_page(SettingValue)))
    assert THRESHOLD in looked_at
    assert f"?key={THRESHOLD}" not in looked_at


def test_the_link_of_a_setting_fills_the_form(organization: Organization) -> None:
    page = text_of(as_role("admin", organization).get(f"{add_page(SettingValue)}?key={THRESHOLD}"))
    assert f'<option value="{THRESHOLD}" selected>' in page
    assert '<option value="organization" selected>' in page
    assert 'name="tenant"' not in page


def test_an_auditor_sees_the_whole_value(organization: Organization) -> None:
    set_value(
        key="ai.routing.large.use_cases",
        scope="organization",
        organization=organization,
        value=["contracts"],
        acting="the tests",
        reason="a test",
    )
    setting = SettingValue.objects.get(organization=organization)
    page = text_of(as_role("auditor", organization).get(change_page(setting)))
    assert "contracts" in page
    assert 'name="new_value"' not in page
    assert "Remove" not in page


def test_a_setting_that_a_release_has_dropped_can_still_be_looked_at(organization: Organization) -> None:
    dropped = SettingValue.objects.create(
        key="ai.gone", scope="organization", organization=organization, value=1, updated_by="the tests"
    )
    assert as_role("admin", organization).get(change_page(dropped)).status_code == 200
    dropped.delete()
