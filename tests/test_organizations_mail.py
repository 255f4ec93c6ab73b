"""Mail: queued with what it tells of, sent once, tried again, in the reader's language."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail as outside
from django.core.mail.backends.locmem import EmailBackend
from django.db import transaction

from aigov import clock
from aigov.organizations import mail
from aigov.organizations.create import OPERATOR
from aigov.organizations.mail import FIRST_RETRY, TRIES_MAX, queue_mail, send_mails
from aigov.organizations.models import Mail, Organization, User
from budgets import approvals
from budgets.models import ApprovalRequest
from tests.admin_world import change_page, person
from tests.conftest import month_account

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture(autouse=True)
def nothing_queued() -> Iterator[None]:
    Mail.objects.all().delete()
    yield
    Mail.objects.all().delete()


def sent(to: User) -> list[Any]:
    """Sends what is due, and gives what that person has got so far."""
    send_mails()
    return [message for message in outside.outbox if message.to == [to.email]]


def queued_for(user: User, subject: str = "a subject") -> Mail:
    queue_mail(to=[user], write=lambda: (subject, "a text"))
    return Mail.objects.get(recipient=user.email)


def asked_by(user: User, organization: Organization) -> ApprovalRequest:
    return approvals.ask(
        organization=organization,
        kind="cap",
        month=month_account(organization).month,
        amount_eur=Decimal("1500"),
        reason="a fair",
        acting=user,
    )


# --- What is told


def test_both_sides_are_told_and_nobody_twice(organization: Organization, settings: Any) -> None:
    asker, finance, admin = (person(role, organization) for role in ("finance", "finance", "admin"))
    manager, operator = person("manager", organization), person(OPERATOR)
    asked = asked_by(asker, organization)
    for user in (finance, admin):
        [message] = sent(user)
        assert message.subject.startswith(f"Please decide: Cap of {organization}")
        for words in (
            f"1,000.00{SPACE}€ → 1,500.00{SPACE}€",
            asker.email,
            "a fair",
            f"{settings.PUBLIC_URL}{change_page(asked)}",
        ):
            assert words in message.body
    for user in (asker, manager, operator):
        assert sent(user) == []

    approvals.approve(request_id=asked.pk, acting=admin, reason="good luck")
    [message] = sent(asker)
    assert message.subject.startswith(f"Approved: Cap of {organization}")
    assert "good luck" in message.body
    assert admin.email in message.body
    assert [len(sent(user)) for user in (asker, finance, admin, manager)] == [1, 1, 1, 0]


@pytest.mark.parametrize("end", ["rejected", "expired", "withdrawn"])
def test_the_asker_is_told_what_others_decide(organization: Organization, end: str) -> None:
    asker = person("manager", organization)
    asked = asked_by(asker, organization)
    if end == "rejected":
        approvals.reject(request_id=asked.pk, acting=person("finance", organization), reason="too dear")
    elif end == "expired":
        ApprovalRequest.objects.filter(pk=asked.pk).update(expires_at=clock.now())
        approvals.expire_requests()
    else:
        approvals.withdraw(request_id=asked.pk, acting="a service")
    [message] = sent(asker)
    assert message.subject.startswith(end.capitalize())


def test_who_withdraws_needs_no_mail(organization: Organization) -> None:
    asker = person("manager", organization)
    approvals.withdraw(request_id=asked_by(asker, organization).pk, acting=asker)
    assert sent(asker) == []


def test_where_nobody_else_can_decide_operators_are_told(organization: Organization) -> None:
    asker, operator = person("finance", organization), person(OPERATOR)
    asked_by(asker, organization)
    assert len(sent(operator)) == 1


def test_each_reads_it_in_their_language(organization: Organization) -> None:
    german, english = person("finance", organization), person("finance", organization)
    User.objects.filter(pk=german.pk).update(language="de")
    asked_by(person("manager", organization), organization)
    assert f"1.500,00{SPACE}€" in sent(german)[0].body
    assert f"1,500.00{SPACE}€" in sent(english)[0].body


# --- How it is sent


def test_what_is_rolled_back_is_not_told(organization: Organization) -> None:
    user = person("finance", organization)
    with transaction.atomic():
        queued_for(user)
        transaction.set_rollback(True)
    assert sent(user) == []


def test_a_mail_is_sent_once(organization: Organization) -> None:
    user = person("finance", organization)
    queued = queued_for(user)
    [message] = sent(user)
    assert message.extra_headers["Message-ID"].startswith(f"<aigov-{queued.pk}-")
    assert len(sent(user)) == 1
    queued.refresh_from_db()
    assert queued.sent_at is not None


def test_of_two_workers_with_the_same_mail_one_sends_it(organization: Organization) -> None:
    known_to_both = queued_for(person("finance", organization))
    assert mail._claim(known_to_both)
    assert not mail._claim(known_to_both)


@pytest.fixture
def server_down(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Switches the mail server off and on."""
    send = EmailBackend.send_messages

    def refuse(self: EmailBackend, messages: Any) -> int:
        raise ConnectionRefusedError("nobody there")

    return lambda down: monkeypatch.setattr(EmailBackend, "send_messages", refuse if down else send)


def test_a_mail_waits_for_its_server(organization: Organization, server_down: Callable[[bool], None]) -> None:
    one, other = person("finance", organization), person("finance", organization)
    tried, spared = queued_for(one), queued_for(other)
    server_down(True)
    assert sent(one) == []
    tried.refresh_from_db()
    spared.refresh_from_db()
    assert (tried.tries, spared.tries) == (1, 0)
    assert tried.due_at >= tried.queued_at + FIRST_RETRY
    server_down(False)
    assert (len(sent(one)), len(sent(other))) == (0, 1)
    Mail.objects.filter(pk=tried.pk).update(due_at=clock.now())
    assert len(sent(one)) == 1


def test_a_mail_that_cannot_be_sent_is_given_up(organization: Organization) -> None:
    user = person("finance", organization)
    Mail.objects.filter(pk=queued_for(user).pk).update(tries=TRIES_MAX)
    assert sent(user) == []


def test_sent_mails_are_forgotten_after_a_month(organization: Organization) -> None:
    old, new = queued_for(person("finance", organization)), queued_for(person("finance", organization))
    Mail.objects.filter(pk=old.pk).update(sent_at=clock.now() - timedelta(days=31))
    send_mails()
    assert list(Mail.objects.all()) == [new]


def test_a_subject_is_one_line(organization: Organization) -> None:
    user = person("finance", organization)
    queued_for(user, subject=f"Cap of A\r\nBcc: everybody@example.com {'x' * 400}")
    [message] = sent(user)
    assert message.subject.startswith("Cap of A Bcc: everybody")
    assert "Bcc" not in message.message()
