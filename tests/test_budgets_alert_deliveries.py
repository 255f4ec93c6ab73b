"""The way of alerts to people: signed, tried again, given up, sent again; each once."""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.db import connection, transaction

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.models import Organization
from budgets.alerts import deliveries, destinations, webhook
from budgets.alerts.destinations import Unsealable, add_destination, change_destination, remove_destination
from budgets.models import Alert, AlertDelivery, AlertDestination, AlertKind
from tests.admin_world import last_audit_entry, person
from tests.alerts_world import raise_alert
from tests.webhook_world import Received, Receiver, receiver

DOCS = Path(django_settings.BASE_DIR) / "docs" / "alerts.md"


@pytest.fixture(autouse=True)
def nothing_else_is_due() -> None:
    """What other tests have left on its way is not tried here."""
    AlertDelivery.objects.filter(state="pending").update(next_try_at=clock.now() + timedelta(days=365))


@pytest.fixture
def hook(settings: Any) -> Iterator[Receiver]:
    """A receiver on this machine, which the operator has allowed."""
    settings.OUTBOUND_TRUSTED_HOSTS = frozenset({"127.0.0.1"})
    with receiver() as kept:
        yield kept


def destination(
    organization: Organization, address: str, channel: str = "webhook", **more: Any
) -> tuple[AlertDestination, str]:
    made, secret = add_destination(
        organization=organization, channel=channel, name="ours", address=address, acting="the tests", **more
    )
    return made, secret or ""


def raised(organization: Organization, key: str = "") -> Alert:
    alert = raise_alert(
        organization=organization,
        kind=AlertKind.UNUSUAL_DAY,
        period="2026-11-23",
        key=key,
        figures={"cost_eur": "40.000000000", "usual_eur": "10.000000000", "score": "20.2"},
    )
    return alert


def due_now() -> None:
    """The time of the next try has come."""
    AlertDelivery.objects.filter(state="pending", next_try_at__lt=clock.now() + timedelta(days=1)).update(
        next_try_at=clock.now()
    )


def way_of(alert: Alert) -> AlertDelivery:
    return alert.deliveries.get()


# --- Signed webhooks


def test_a_webhook_is_signed_as_the_docs_say(organization: Organization, hook: Receiver) -> None:
    _, secret = destination(organization, f"{hook.url}/hook?token=x")
    alert = raised(organization)
    assert deliveries.deliver_due() == 1
    [came] = hook.received
    assert came.path == "/hook?token=x"
    assert verified_by_the_docs(came, secret)
    told = json.loads(came.body)
    assert (told["type"], told["data"]["organization"]["id"]) == ("alert.unusual_day", organization.pk)
    assert told["data"]["figures"] == alert.figures
    assert told["data"]["url"].startswith(django_settings.PUBLIC_URL)
    assert (way_of(alert).state, way_of(alert).tries) == ("sent", 1)
    assert deliveries.deliver_due() == 0


def verified_by_the_docs(came: Received, secret: str) -> bool:
    """Runs the snippet of docs/alerts.md, as somebody who copies it."""
    [snippet] = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert len(snippet.splitlines()) <= 12
    copied: dict[str, Any] = {}
    exec(snippet, copied)
    verified: bool = copied["is_ours"](came.headers, came.body, secret)
    return verified


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "webhook-signature", "secret"])
def test_what_was_altered_is_not_ours(part: str) -> None:
    secret = "whsec_" + base64.b64encode(b"s" * 32).decode()
    headers, body = webhook.signed_headers("msg_1", b"{}", secret), b"{}"
    assert verified_by_the_docs(Received("/", headers, body), secret)
    if part == "body":
        body = b"{ }"
    elif part == "secret":
        secret = "whsec_" + base64.b64encode(b"t" * 32).decode()
    else:
        headers[part] = {"webhook-timestamp": "1600000000"}.get(part, "v1,other")
    assert not verified_by_the_docs(Received("/", headers, body), secret)


def test_the_signature_is_that_of_the_standards_own_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the tests of the Standard Webhooks libraries."""
    at = datetime.fromtimestamp(1614265330, UTC)
    monkeypatch.setattr(clock, "now", lambda: at)
    body, secret = b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = webhook.signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", body, secret)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# --- Tried again, and given up


def test_a_delivery_is_tried_again_with_the_same_id(organization: Organization, hook: Receiver) -> None:
    destination(organization, hook.url)
    hook.statuses = [500, 429, 200]
    alert = raised(organization)
    for tries in (1, 2):
        assert deliveries.deliver_due() == 1
        way = way_of(alert)
        assert (way.state, way.tries, way.next_try_at > clock.now()) == ("pending", tries, True)
        assert deliveries.deliver_due() == 0, "not before its time"
        due_now()
    assert way_of(alert).last_error == "The answer was 429."
    assert deliveries.deliver_due() == 1
    assert (way_of(alert).state, way_of(alert).last_error) == ("sent", "")
    assert len({came.headers["webhook-id"] for came in hook.received}) == 1


def test_after_many_tries_it_is_given_up_and_can_be_sent_again(
    organization: Organization, hook: Receiver
) -> None:
    destination(organization, hook.url)
    hook.statuses = [503] * deliveries.TRIES_MAX
    alert = raised(organization)
    for _ in range(deliveries.TRIES_MAX):
        assert deliveries.deliver_due() == 1
        due_now()
    assert (way_of(alert).state, way_of(alert).last_error) == ("dead", "The answer was 503.")
    assert deliveries.deliver_due() == 0
    finance = person("finance", organization)
    deliveries.send_again(delivery=way_of(alert), acting=finance)
    with pytest.raises(BadRequest):
        deliveries.send_again(delivery=way_of(alert), acting=finance)
    assert deliveries.deliver_due() == 1
    assert way_of(alert).state == "sent"
    assert last_audit_entry(organization, "alert.send_again").actor == finance.email


def test_the_waits_grow_and_differ() -> None:
    for tries in range(1, deliveries.TRIES_MAX):
        longest = deliveries.FIRST_WAIT * 3 ** (tries - 1)
        waits = {deliveries.wait_after(tries) for _ in range(50)}
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len(waits) > 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int, organization: Organization, hook: Receiver) -> None:
    destination(organization, hook.url)
    hook.statuses = [status]
    alert = raised(organization)
    deliveries.deliver_due()
    assert len(hook.received) == 1
    assert (way_of(alert).state, way_of(alert).last_error) == ("pending", f"The answer was {status}.")


def test_a_receiver_that_is_gone_for_good_is_asked_once(organization: Organization, hook: Receiver) -> None:
    destination(organization, hook.url)
    hook.statuses = [410]
    alert = raised(organization)
    deliveries.deliver_due()
    assert way_of(alert).state == "dead"


def test_an_address_in_our_network_is_never_asked(
    organization: Organization, hook: Receiver, settings: Any
) -> None:
    destination(organization, hook.url)
    settings.OUTBOUND_TRUSTED_HOSTS = frozenset()  # since then the operator has thought better of it
    alert = raised(organization)
    deliveries.deliver_due()
    assert hook.received == []
    assert way_of(alert).state == "dead"


def test_nobody_there(organization: Organization, settings: Any) -> None:
    settings.OUTBOUND_TRUSTED_HOSTS = frozenset({"127.0.0.1"})
    destination(organization, "http://127.0.0.1:9/")
    alert = raised(organization)
    deliveries.deliver_due()
    assert (way_of(alert).state, way_of(alert).last_error) == (
        "pending",
        "There was no answer: ConnectError.",
    )


# --- Each once


def test_eight_workers_send_each_delivery_once(organization: Organization, hook: Receiver) -> None:
    destination(organization, hook.url)
    for number in range(12):
        raised(organization, str(number))

    def work() -> None:
        try:
            deliveries.deliver_due()
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(hook.received) == 12
    assert len({came.headers["webhook-id"] for came in hook.received}) == 12


def test_what_a_dead_worker_had_claimed_is_taken_over(organization: Organization, hook: Receiver) -> None:
    destination(organization, hook.url)
    alert = raised(organization)
    claimed = deliveries.claim()
    assert claimed is not None and deliveries.claim() is None
    due_now()  # two minutes later, and nothing was heard of it
    assert deliveries.deliver_due() == 1
    deliveries.attempt(claimed)  # it was only slow: what it has to say is of no account any more
    assert (way_of(alert).state, way_of(alert).tries) == ("sent", 2)


# --- Mail and Slack


def test_without_a_destination_finance_gets_a_mail(organization: Organization) -> None:
    finance, retired = person("finance", organization), person("finance", organization)
    person("manager", organization)
    retired.is_active = False
    retired.save()
    alert = raised(organization)
    deliveries.deliver_due()
    [letter] = mail.outbox
    assert letter.to == [finance.email]
    assert letter.subject == f"Unusually expensive day: {organization}"
    assert "has cost 40.00" in letter.body
    assert f"{django_settings.PUBLIC_URL}/admin/budgets/alert/{alert.pk}/change/" in letter.body


def test_a_person_gets_the_mail_in_their_language(organization: Organization) -> None:
    finance = person("finance", organization)
    finance.language = "de"
    finance.save()
    raised(organization)
    deliveries.deliver_due()
    [letter] = mail.outbox
    assert letter.subject == f"Ungewöhnlich teurer Tag: {organization}"
    assert "40,00\N{NO-BREAK SPACE}€" in letter.body


def test_a_mail_that_is_not_taken_is_sent_later(organization: Organization, settings: Any) -> None:
    person("finance", organization)
    alert = raised(organization)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    deliveries.deliver_due()
    assert way_of(alert).state == "pending"
    assert "The mail server did not take it" in way_of(alert).last_error


def test_slack_gets_text_and_blocks(organization: Organization, hook: Receiver) -> None:
    Organization.objects.filter(pk=organization.pk).update(name=f"A <b> & C {organization.pk}")
    made, secret = destination(organization, f"{hook.url}/services/T0/B0/s3cret", "slack")
    assert (secret, "s3cret" in made.address) == ("", False)
    raised(organization)
    deliveries.deliver_due()
    [came] = hook.received
    message = json.loads(came.body)
    assert message["text"].startswith("Unusually expensive day: A &lt;b&gt; &amp; C")
    assert [block["type"] for block in message["blocks"]] == ["section", "section", "context"]
    assert "webhook-signature" not in came.headers


# --- Destinations


def test_a_destination_gets_the_kinds_it_wants(organization: Organization) -> None:
    person("finance", organization)
    destination(organization, "all@example.com", "mail")
    destination(organization, "bills@example.com", "mail", kinds=["reconciliation"])
    sleeping, _ = destination(organization, "sleeping@example.com", "mail")
    change_destination(
        destination=sleeping,
        **{"name": "ours", "address": "", "kinds": [], "active": False},
        acting="the tests",
        reason="a test",
    )
    assert [way.address for way in raised(organization).deliveries.all()] == ["all@example.com"]


def test_a_test_alert_goes_to_that_destination_alone(organization: Organization, hook: Receiver) -> None:
    destination(organization, "all@example.com", "mail")
    made, _ = destination(organization, hook.url, kinds=["reconciliation"])
    alert = destinations.send_test(destination=made, acting="the tests")
    deliveries.deliver_due()
    assert not alert.is_open
    assert json.loads(hook.received[0].body)["type"] == "alert.test"
    assert mail.outbox == []


def test_no_secret_is_kept_readable(organization: Organization, hook: Receiver, settings: Any) -> None:
    made, secret = destination(organization, f"{hook.url}/hook?token=s3cret")
    assert made.address == f"{hook.url}/hook?…"
    row = AlertDestination.objects.get(pk=made.pk)
    kept = bytes(row.sealed or b"") + repr(row.__dict__).encode()
    audited = last_audit_entry(organization, "alert_destination.add")
    for part in (secret, "s3cret"):
        assert part.encode() not in kept and part not in json.dumps(audited.after)
    assert destinations.opened(row).secret == secret
    settings.SECRET_KEY = "another key altogether, of enough characters"
    with pytest.raises(Unsealable):
        destinations.opened(row)
    alert = raised(organization)
    deliveries.deliver_due()
    assert "make the destination anew" in way_of(alert).last_error


def test_a_secret_opens_for_its_own_organization_alone(
    make_organization: Callable[..., Organization], hook: Receiver
) -> None:
    made, _ = destination(make_organization(), hook.url)
    made.organization = make_organization()
    with pytest.raises(Unsealable):
        destinations.opened(made)


def test_a_changed_address_keeps_the_secret(organization: Organization, hook: Receiver) -> None:
    made, secret = destination(organization, hook.url)
    change_destination(
        destination=made,
        **{"name": "new", "address": f"{hook.url}/new", "kinds": ["forecast"], "active": True},
        acting="the tests",
        reason="moved",
    )
    made.refresh_from_db()
    assert destinations.opened(made).secret == secret
    entry = last_audit_entry(organization, "alert_destination.change")
    assert (entry.before["name"], entry.after["name"], entry.reason) == ("ours", "new", "moved")


@pytest.mark.parametrize(
    ("channel", "address"),
    [("mail", "nobody"), ("webhook", "http://example.com/"), ("slack", "https://u:p@example.com/")],
)
def test_an_address_that_is_none_is_refused(channel: str, address: str, organization: Organization) -> None:
    with pytest.raises(BadRequest) as refused, transaction.atomic():
        destination(organization, address, channel)
    assert refused.value.param == "address"


def test_with_its_destination_a_delivery_is_given_up(organization: Organization, hook: Receiver) -> None:
    made, _ = destination(organization, hook.url)
    alert = raised(organization)
    remove_destination(destination=made, acting="the tests", reason="a test")
    assert deliveries.deliver_due() == 0
    assert (way_of(alert).state, way_of(alert).destination) == ("dead", None)
    with pytest.raises(BadRequest):
        deliveries.send_again(delivery=way_of(alert), acting="the tests")
    assert last_audit_entry(organization, "alert_destination.remove").reason == "a test"
