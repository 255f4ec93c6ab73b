"""What the tests of the admin share: people with a role, logged in, and an organization with a row of each
kind.
"""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from aigov import clock
from aigov.organizations.audit import write_audit_entry
from aigov.organizations.create import OPERATOR
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import ApiKey, AuditEntry, Member, Organization, Scope, Tenant, User
from aigov.organizations.tenant_admin import TenantAdmin
from aigov.registry.models import SettingValue
from aigov.registry.values import set_value
from budgets.alerts.destinations import add_destination
from budgets.approvals import ask
from budgets.models import (
    AccountingMonth,
    Alert,
    AlertDelivery,
    AlertDestination,
    AlertKind,
    ApprovalRequest,
    BudgetAccount,
    CostRecord,
    Hold,
)
from kpis.digests import subscribe
from kpis.hooks import make_hook
from kpis.models import DigestSubscription, Outcome, OutcomeHook
from kpis.outcomes import Told, record_outcomes
from routing.models import Decision
from tests.alerts_world import raise_alert
from tests.conftest import Server, month_account
from tests.ledger_world import charge_of, reserve

LEAD = "Wir suchen eine Lösung für 500 Mitarbeiter."


def person(role: str | None, organization: Organization | None = None) -> User:
    """A person with that role, or with none; without a password, whose hash takes most of a second."""
    email = f"{role}-{uuid4().hex[:12]}@example.com"
    user = User.objects.create_user(email, is_superuser=role == OPERATOR)
    if role not in (None, OPERATOR) and organization is not None:
        Member.objects.create(user=user, organization=organization, role=role)
    return user


def logged_in(user: User, **headers: str) -> Client:
    client = Client(headers=headers)
    client.force_login(user)
    return client


def as_role(role: str | None, organization: Organization | None = None) -> Client:
    return logged_in(person(role, organization))


def list_page(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def add_page(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")


def change_page(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[quote(row.pk)])


def admins() -> Mapping[type[Model], TenantAdmin]:
    """Every page of the admin that is there."""
    return dict(admin.site._registry)  # type: ignore[arg-type]


def text_of(response: Any) -> str:
    text: str = response.content.decode()
    return text


def errors_of(response: Any) -> dict[str, list[str]]:
    """What stands at the fields of a form that was shown again."""
    assert response.status_code == 200, response
    form = response.context.get("page_form") or response.context["adminform"].form
    return {name: [str(error) for error in errors] for name, errors in form.errors.items()}


def last_audit_entry(organization: Organization | None, action: str) -> AuditEntry:
    return AuditEntry.objects.filter(organization=organization, action=action).latest("id")


def fill(organization: Organization, server: Server) -> dict[type[Model], Model]:
    """Gives the organization a row of each kind that belongs to one; an open hold of 1 euro is among them."""
    key, token = create_api_key(organization=organization, name="k", scopes=Scope.values, acting="the tests")
    server.refresh()
    member = person("auditor", organization)
    set_value(
        key="ai.cache.ttl",
        scope="organization",
        organization=organization,
        value="PT1H",
        acting="the tests",
        reason="a test",
    )
    asking = {"messages": [{"role": "user", "content": LEAD}], "labels": ["A", "B", "C"], "user": "u-1"}
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as api:
        answer = api.post("/api/v1/completions", json={**asking, "use_case": "lead"}).json()
    account = month_account(organization)
    asked = ask(
        organization=organization,
        kind="cap",
        month=account.month,
        amount_eur=Decimal(1500),
        acting="the tests",
        reason="a test",
    )
    hold_id = in_server(server, reserve(charge_of(organization), "1", lifetime_s=3600))
    destination, _secret = add_destination(
        organization=organization, channel="mail", name="d", address="d@example.com", acting="the tests"
    )
    usual = {"cost_eur": "9.000000000", "usual_eur": "1.000000000", "score": "9.9"}
    alert = raise_alert(
        organization=organization, kind=AlertKind.UNUSUAL_DAY, period="2026-11-23", key="", figures=usual
    )
    hook, _secret = make_hook(organization=organization, name="crm", acting="the tests")
    outcome = Told("lead", "L-1", clock.now(), Decimal(5))
    record_outcomes(organization=organization, outcomes=[outcome], acting="the tests")
    digest = subscribe(organization=organization, user=member, rhythm="weekly", language="en")
    entry = write_audit_entry(organization=organization, acting="the tests", action="x.y", target="a test")
    return {
        Tenant: organization.tenant,
        Organization: organization,
        Member: Member.objects.get(user=member),
        User: member,
        ApiKey: key,
        AuditEntry: entry,
        SettingValue: SettingValue.objects.get(organization=organization),
        BudgetAccount: account,
        AccountingMonth: AccountingMonth.objects.get(pk=account.pk),
        ApprovalRequest: asked,
        Hold: Hold.objects.get(pk=hold_id),
        CostRecord: CostRecord.objects.filter(completion_id=answer["id"]).earliest("id"),
        AlertDestination: destination,
        Alert: alert,
        AlertDelivery: alert.deliveries.get(),
        Outcome: Outcome.objects.get(organization=organization),
        OutcomeHook: hook,
        DigestSubscription: digest,
        Decision: Decision.objects.get(pk=answer["id"]),
    }


def in_server(server: Server, work: Any) -> Any:
    """The result of an asynchronous call that is made in the server's own event loop."""
    return asyncio.run_coroutine_threadsafe(work, server.loop).result(timeout=30)
