"""Leads and orders from elsewhere (a CRM's signed webhook, a CSV file), and the e-mail with the figures."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from aigov import clock
from aigov.errors import AuthenticationFailed, BadRequest
from aigov.organizations.models import AuditEntry, Mail, Member, Organization, User
from aigov.web.webhook_signature import signature
from kpis import digests
from kpis.csv_import import ROWS_MAX, Mistake, decoded, read_table
from kpis.hooks import hook_of_message, make_hook, revoke_hook
from kpis.models import DigestSubscription, HookDelivery, Outcome, OutcomeHook, Rhythm
from kpis.outcomes import Told
from tests.admin_world import as_role, logged_in, person
from tests.ledger_world import spend

Make = Callable[..., Organization]
LEAD = {"kind": "lead", "external_id": "L-1", "occurred_at": "2026-11-02T10:00:00+01:00"}


# --- The webhook


def signed(secret: str, body: bytes, *, message_id: str = "msg_1", at: float | None = None) -> dict[str, str]:
    timestamp = str(int(clock.now().timestamp() if at is None else at))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,bm90IG91cnM= {signature(secret, message_id, timestamp, body)}",
        "authorization": "",
    }


def tell(value: str = "0") -> bytes:
    return json.dumps({"outcomes": [{**LEAD, "value_eur": value}]}).encode()


def address(hook: OutcomeHook) -> str:
    return reverse("outcome-hook", args=[hook.pk])


def test_a_signature_is_what_standard_webhooks_say() -> None:
    # The specification's own example.
    body = b'{"test": 2432232314}'
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    said = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signed_message_is_taken_once(api: httpx2.Client, organization: Organization) -> None:
    hook, secret = make_hook(organization=organization, name="crm", acting="the tests")
    first, second = tell("10"), tell("20")
    headers = signed(secret, first)
    assert api.post(address(hook), content=first, headers=headers).json()["created"] == 1
    later = signed(secret, second, message_id="msg_2")
    assert api.post(address(hook), content=second, headers=later).json()["changed"] == 1
    # The first one again, still signed and fresh, does not bring the old value back.
    assert api.post(address(hook), content=first, headers=headers).json() == {
        **{"created": 0, "changed": 0, "unchanged": 1},
    }
    assert Outcome.objects.get(organization=organization).value_eur == 20
    actors = AuditEntry.objects.filter(organization=organization, action="outcome.change")
    assert actors.get().actor == "CRM webhook crm"


def test_old_deliveries_are_forgotten(api: httpx2.Client, organization: Organization) -> None:
    hook, secret = make_hook(organization=organization, name="crm", acting="the tests")
    HookDelivery.objects.create(hook=hook, message_id="old", received_at=clock.now() - timedelta(hours=1))
    api.post(address(hook), content=tell(), headers=signed(secret, tell()))
    assert set(hook.deliveries.values_list("message_id", flat=True)) == {"msg_1"}


@pytest.mark.parametrize("spoil", ["body", "id", "old", "early", "secret", "none", "revoked", "nobody"])
def test_what_is_not_signed_is_refused_in_the_same_words(
    spoil: str, api: httpx2.Client, organization: Organization
) -> None:
    hook, secret = make_hook(organization=organization, name="crm", acting="the tests")
    body, now = tell(), clock.now().timestamp()
    headers = signed(secret, body, at={"old": now - 301, "early": now + 310}.get(spoil))
    if spoil == "secret":
        headers = signed("whsec_" + base64.b64encode(b"x" * 32).decode(), body)
    if spoil == "id":
        headers["webhook-id"] = "msg_9"
    if spoil == "none":
        headers = {"authorization": ""}
    if spoil == "revoked":
        assert revoke_hook(hook=hook, acting="the tests", reason="a test")
        assert not revoke_hook(hook=hook, acting="the tests", reason="a test")
    path = address(hook if spoil != "nobody" else OutcomeHook())
    answer = api.post(path, content=body + b" " if spoil == "body" else body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_signature")
    assert not Outcome.objects.filter(organization=organization).exists()


def test_under_another_secret_key_messages_are_refused(organization: Organization, settings: Any) -> None:
    hook, secret = make_hook(organization=organization, name="crm", acting="the tests")
    message = {"hook_id": hook.pk, "headers": signed(secret, tell()), "body": tell()}
    assert hook_of_message(**message) == hook
    settings.SECRET_KEY = "another key altogether, of enough characters"
    with pytest.raises(AuthenticationFailed, match="missing, wrong or too old"):
        hook_of_message(**message)


def test_a_signed_mistake_is_named_and_may_be_sent_again(
    api: httpx2.Client, organization: Organization
) -> None:
    hook, secret = make_hook(organization=organization, name="crm", acting="the tests")
    wrong = json.dumps({"outcomes": [{**LEAD, "kind": "click"}]}).encode()
    answer = api.post(address(hook), content=wrong, headers=signed(secret, wrong))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "outcomes[0].kind")
    assert api.post(address(hook), content=tell(), headers=signed(secret, tell())).json()["created"] == 1


def test_the_secret_is_sealed_and_shown_once(organization: Organization) -> None:
    client = as_role("admin", organization)
    page = client.post(
        reverse("admin:kpis_outcomehook_add"), {"organization": organization.pk, "name": "CRM"}, follow=True
    )
    assert "whsec_" in page.content.decode()
    hook = OutcomeHook.objects.get(organization=organization)
    assert b"whsec_" not in bytes(hook.secret_sealed)
    shown = client.get(reverse("admin:kpis_outcomehook_change", args=[hook.pk])).content.decode()
    assert "whsec_" not in shown
    assert address(hook) in shown


# --- The CSV file

GERMAN = """Art;Datum;ID;Wert
Lead;22.11.2025;L-1;
Auftrag;22.11.2025 23:30;O-1;1.234,50 €

lead;2025-11-22T10:00:00Z;L-2;0,5
"""


def test_a_german_table_is_read_as_it_is_meant() -> None:
    table = read_table(GERMAN, time_zone="Europe/Berlin")
    assert table.mistakes == ()
    assert [
        (row.kind, row.external_id, row.occurred_at.isoformat(), row.value_eur) for row in table.outcomes
    ] == [
        ("lead", "L-1", "2025-11-22T00:00:00+01:00", Decimal(0)),
        ("order", "O-1", "2025-11-22T23:30:00+01:00", Decimal("1234.50")),
        ("lead", "L-2", "2025-11-22T10:00:00+00:00", Decimal("0.5")),
    ]


def test_an_english_table_too() -> None:
    text = 'external_id,kind,occurred_at,value_eur\nO-1,order,2025-11-22,"1,234.50"\n'
    assert read_table(text, time_zone="UTC").outcomes == (
        Told("order", "O-1", datetime(2025, 11, 22, tzinfo=UTC), Decimal("1234.50")),
    )


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("click;2025-11-22;1;1", "kind"),
        ("lead;2025-11-22;;1", "external_id"),
        (f"lead;2025-11-22;{'x' * 201};1", "external_id"),
        ("lead;22/11/2025;1;1", "occurred_at"),
        ("lead;31.02.2025;1;1", "occurred_at"),
        ("lead;01.01.1999;1;1", "occurred_at"),
        ("lead;2025-11-22;1;many", "value_eur"),
        ("lead;2025-11-22;1;-1", "value_eur"),
        ("lead;2025-11-22;1;0,0000000001", "value_eur"),
        ("lead", "external_id"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_line(row: str, column: str) -> None:
    text = f"kind;date;id;value\nlead;2025-11-22;ok;1\n{row}\nlead;2025-11-22;fine;1\n"
    table = read_table(text, time_zone="Europe/Berlin")
    assert [(mistake.line, mistake.column) for mistake in table.mistakes] == [(3, column)]
    assert [outcome.external_id for outcome in table.outcomes] == ["ok", "fine"]


@pytest.mark.parametrize("amount", ["1.234", "1,234", "12.000 €"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_an_amount_that_can_be_read_in_two_ways_is_refused(separator: str, amount: str) -> None:
    lines = "kind;date;id;value\norder;2025-11-22;{};{}\n".replace(";", separator)
    (mistake,) = read_table(lines.format("O-1", amount), time_zone="UTC").mistakes
    assert mistake == Mistake(2, "value_eur", f"“{amount}” can be read in two ways.")
    assert read_table(lines.format("O-1", "1234"), time_zone="UTC").mistakes == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_umlauts_survive_every_encoding(encoding: str) -> None:
    text = "kind;date;id\nlead;2025-11-22;Müller GmbH\n"
    table = read_table(decoded(text.encode(encoding)), time_zone="UTC")
    assert [outcome.external_id for outcome in table.outcomes] == ["Müller GmbH"]


@pytest.mark.parametrize(
    "content", [b"", b"kind;date\nlead;2025-11-22", b"\x00\x01\x02", b"x" * (2**20 + 1)], ids=str
)
def test_what_is_no_table_is_refused(content: bytes) -> None:
    with pytest.raises(BadRequest):
        read_table(decoded(content), time_zone="UTC")


def test_a_table_has_a_length() -> None:
    with pytest.raises(BadRequest, match="lines"):
        read_table("kind;date;id\n" + "lead;2025-11-22;1\n" * (ROWS_MAX + 1), time_zone="UTC")


def test_the_import_shows_first_and_then_does_what_it_showed(organization: Organization) -> None:
    client, page = as_role("finance", organization), "/admin/kpis/outcome/import/"
    content = GERMAN + "click;2025-11-22;L-9;1\n"
    file = SimpleUploadedFile("crm.csv", content.encode("cp1252"))
    shown = client.post(page, {"organization": organization.pk, "file": file}).content.decode()
    assert "Import 3 rows" in shown
    assert "<td>7</td>" not in shown and "<td>6</td><td>kind</td>" in shown
    assert not Outcome.objects.filter(organization=organization).exists()
    done = client.post(page, {"organization": organization.pk, "text": content, "import": "1"}, follow=True)
    assert "3 new" in done.content.decode()
    assert Outcome.objects.get(organization=organization, external_id="O-1").value_eur == Decimal("1234.5")


def test_nobody_imports_for_others(organization: Organization, make_organization: Make) -> None:
    page = "/admin/kpis/outcome/import/"
    given = {"organization": organization.pk, "text": GERMAN, "import": "1"}
    assert as_role("auditor", organization).post(page, given).status_code == 403
    refused = as_role("finance", make_organization()).post(page, given)
    assert "Select a valid choice" in refused.content.decode()
    assert not Outcome.objects.filter(organization=organization).exists()


# --- The e-mail


def subscription_of(organization: Organization, rhythm: str = "weekly", **more: Any) -> DigestSubscription:
    user = person("manager", organization)
    made = digests.subscribe(organization=organization, user=user, rhythm=rhythm, language="en")
    DigestSubscription.objects.filter(pk=made.pk).update(**more)
    return made


def mails_to(subscription: DigestSubscription) -> list[Mail]:
    return list(Mail.objects.filter(recipient=subscription.user.email))


@pytest.mark.parametrize(
    ("rhythm", "today", "first", "last"),
    [
        ("weekly", date(2026, 11, 23), date(2026, 11, 16), date(2026, 11, 22)),
        ("weekly", date(2026, 11, 22), date(2026, 11, 9), date(2026, 11, 15)),
        ("monthly", date(2026, 3, 1), date(2026, 2, 1), date(2026, 2, 28)),
        ("monthly", date(2026, 3, 31), date(2026, 2, 1), date(2026, 2, 28)),
    ],
)
def test_a_digest_is_of_the_last_whole_period(rhythm: str, today: date, first: date, last: date) -> None:
    period = digests.last_period(rhythm, today)
    assert (period.first, period.last) == (first, last)


def test_a_digest_is_queued_once_with_its_figures(organization: Organization) -> None:
    spend(organization, "0.25")
    subscription = subscription_of(organization)
    monday = clock.now().replace(hour=12) + timedelta(days=7 - clock.now().weekday())
    digests.send_due()
    assert mails_to(subscription) == []  # the period had ended before it was ordered
    digests.send_due(monday)
    digests.send_due(monday)
    (message,) = mails_to(subscription)
    assert organization.name in message.subject
    assert "Cost: 0.25\N{NO-BREAK SPACE}€ (0.00\N{NO-BREAK SPACE}€)" in message.body
    assert "Cost per lead: – (–)" in message.body
    assert mail.outbox == []  # no mail server is waited for


def test_nobody_without_a_role_gets_one(organization: Organization) -> None:
    subscription = subscription_of(organization, sent_for=date(2026, 1, 1))
    Member.objects.filter(user=subscription.user).delete()
    digests.send_due(clock.now().replace(hour=12))
    assert mails_to(subscription) == []


def test_a_digest_speaks_its_reader_s_language(organization: Organization) -> None:
    subscription = subscription_of(organization, rhythm="monthly", sent_for=date(2026, 1, 1), language="de")
    digests.send_due(clock.now().replace(hour=12))
    (message,) = mails_to(subscription)
    assert "0,00\N{NO-BREAK SPACE}€" in message.body


def test_the_language_of_a_person_s_mails_comes_first(organization: Organization) -> None:
    subscription = subscription_of(organization, rhythm="monthly", sent_for=date(2026, 1, 1), language="en")
    User.objects.filter(pk=subscription.user_id).update(language="de")
    digests.send_due(clock.now().replace(hour=12))
    (message,) = mails_to(subscription)
    assert "0,00\N{NO-BREAK SPACE}€" in message.body


def test_people_order_and_cancel_their_own(organization: Organization) -> None:
    user = person("auditor", organization)
    client = logged_in(user)
    given = {"organization": organization.pk, "rhythm": Rhythm.MONTHLY.value}
    client.post(reverse("admin:kpis_digestsubscription_add"), given)
    mine = DigestSubscription.objects.get(user=user)
    cancel = reverse("admin:kpis_digestsubscription_cancel", args=[mine.pk])
    assert as_role("admin", organization).post(cancel).status_code == 403
    assert client.post(cancel).status_code == 302
    assert not DigestSubscription.objects.filter(user=user).exists()
    entries = AuditEntry.objects.filter(organization=organization, action__startswith="digest.")
    assert [entry.action for entry in entries.order_by("id")] == ["digest.subscribe", "digest.unsubscribe"]
