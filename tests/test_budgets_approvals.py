"""Four eyes: what takes two people is asked for by one and decided by another, once."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from aigov import clock
from aigov.errors import BadRequest, GatewayError, NotFound, PermissionDenied, SecondPersonNeeded
from aigov.organizations.create import OPERATOR
from aigov.organizations.keys import create_api_key
from aigov.organizations.models import ApiKey, AuditEntry, Member, Organization, User
from aigov.registry.values import remove_value, set_value
from budgets import approvals
from budgets.accounts import MONTHLY_CAP, open_month, set_month_cap
from budgets.approvals import ask, expire_requests, is_open, waiting_for, withdraw
from budgets.four_eyes import APPROVAL_ABOVE, needs_second_person
from budgets.models import ApprovalRequest, BudgetAccount, RequestKind, RequestState
from tests.admin_world import person
from tests.conftest import month_account

Make = Callable[..., Organization]
WAIT_S = 30.0


def present(organization: Organization) -> Any:
    return clock.month_of(clock.now(), organization.time_zone)


def asked_by(acting: User | ApiKey | str, organization: Organization, **more: Any) -> ApprovalRequest:
    given: dict[str, Any] = {"kind": "cap", "month": present(organization), "amount_eur": Decimal(1500)}
    return ask(**{**given, "organization": organization, "reason": "a fair", "acting": acting, **more})


def key_of(maker: User | str, organization: Organization) -> ApiKey:
    key, _token = create_api_key(
        organization=organization, name="k", scopes=["budget:write", "settings:write"], acting=maker
    )
    return key


def actions(organization: Organization) -> list[str]:
    entries = AuditEntry.objects.filter(organization=organization, action__startswith="budget.")
    return list(entries.order_by("pk").values_list("action", flat=True))


def cap_of(organization: Organization) -> Decimal | None:
    return month_account(organization).cap_eur


# --- The rule


@pytest.mark.parametrize(
    ("before", "after", "finance", "needed"),
    [
        ("1000", "1200", True, False),
        ("1000", "1200.000000001", True, True),
        ("1000", "1000.01", False, True),
        ("5000", "4999", False, False),
        ("5000", "5000", True, False),
        ("5000", "5001", True, True),
        (None, "9000", False, False),
    ],
)
def test_a_raise_above_the_limit_or_by_others_than_finance_takes_two(
    before: str | None, after: str, finance: bool, needed: bool
) -> None:
    known = None if before is None else Decimal(before)
    judged = needs_second_person(
        before_eur=known, after_eur=Decimal(after), limit_eur=Decimal(1200), is_finance=finance
    )
    assert judged is needed


@pytest.mark.parametrize(
    ("role", "cap", "alone"),
    [
        ("finance", "1200", True),
        ("finance", "1200.01", False),
        ("admin", "999", True),
        ("admin", "1000.01", False),
        (OPERATOR, "1200", True),
        (OPERATOR, "1200.01", False),
    ],
)
def test_who_sets_a_months_cap_alone(organization: Organization, role: str, cap: str, alone: bool) -> None:
    setting = {"account": month_account(organization), "cap_eur": Decimal(cap), "reason": "x"}
    if alone:
        set_month_cap(acting=person(role, organization), **setting)
        assert cap_of(organization) == Decimal(cap)
    else:
        with pytest.raises(SecondPersonNeeded, match="needs a second person"):
            set_month_cap(acting=person(role, organization), **setting)
        assert cap_of(organization) == 1000


def set_standing(organization: Organization, cap: str, acting: User | ApiKey | str) -> None:
    where: dict[str, Any] = {"scope": "organization", "organization": organization}
    set_value(key=MONTHLY_CAP, **where, value=cap, acting=acting, reason="x")


@pytest.mark.parametrize(
    ("who", "cap", "alone"),
    [
        ("admin", "900", True),
        ("admin", "1001", False),
        ("operator", "1200", True),
        ("operator", "1201", False),
        ("the key of an admin", "1001", False),
        ("the key of an admin", "900", True),
        ("the machine's key", "1200", True),
        ("the machine's key", "1201", False),
        ("manage.py", "5000", True),
    ],
)
def test_who_sets_the_standing_cap_alone(organization: Organization, who: str, cap: str, alone: bool) -> None:
    """A key does no more than whoever made it: settings:write is no way round."""
    acting: Any = {
        "the key of an admin": lambda: key_of(person("admin", organization), organization),
        "the machine's key": lambda: key_of("manage.py", organization),
        "manage.py": lambda: "manage.py create_organization",
    }.get(who, lambda: person(who, organization))()
    if alone:
        set_standing(organization, cap, acting)
        assert cap_of(organization) == Decimal(cap)
    else:
        with pytest.raises(SecondPersonNeeded, match="needs a second person. Ask for"):
            set_standing(organization, cap, acting)
        assert cap_of(organization) == 1000


def test_to_remove_a_lower_standing_cap_is_a_raise_too(organization: Organization) -> None:
    where: dict[str, Any] = {"scope": "organization", "organization": organization, "reason": "x"}
    set_standing(organization, "500", "manage.py")
    with pytest.raises(SecondPersonNeeded):
        remove_value(key=MONTHLY_CAP, acting=person("admin", organization), **where)
    set_standing(organization, "5000", "manage.py")
    remove_value(key=MONTHLY_CAP, acting=person("admin", organization), **where)
    assert cap_of(organization) == 1000


def test_a_tenants_cap_raises_none_of_its_organizations_unseen(make_organization: Make) -> None:
    one = make_organization()
    with pytest.raises(SecondPersonNeeded) as refused:
        tenants = {"scope": "tenant", "tenant": one.tenant, "reason": "x"}
        set_value(key=MONTHLY_CAP, value=2000, acting=person(OPERATOR), **tenants)  # type: ignore[arg-type]
    assert refused.value.ask is None
    assert cap_of(one) == 1000


def test_only_operators_move_the_limit(organization: Organization) -> None:
    where: dict[str, Any] = {"scope": "organization", "organization": organization, "reason": "x"}
    for acting in (person("admin", organization), key_of("manage.py", organization)):
        with pytest.raises(PermissionDenied):
            set_value(key=APPROVAL_ABOVE, value=9000, acting=acting, **where)
    set_value(key=APPROVAL_ABOVE, value="800", acting=person(OPERATOR), **where)
    set_month_cap(account=month_account(organization), cap_eur=Decimal(700), acting="x", reason="x")
    with pytest.raises(SecondPersonNeeded, match="above 800.00"):
        set_month_cap(
            account=month_account(organization),
            cap_eur=Decimal(801),
            acting=person("finance", organization),
            reason="x",
        )


def test_the_caps_of_users_only_share_out_what_there_is(organization: Organization) -> None:
    account = BudgetAccount.objects.create(
        organization=organization, month=present(organization), scope="user", subject="u-1", cap_eur=5
    )
    set_month_cap(account=account, cap_eur=Decimal(5000), acting=person("admin", organization), reason="x")
    assert account.cap_eur == 5000


# --- To ask


def test_a_request_waits_and_says_what_it_is(organization: Organization) -> None:
    manager = person("manager", organization)
    asked = asked_by(manager, organization)
    assert (asked.state, asked.asked_by, asked.asked_by_user) == ("open", manager.email, manager)
    assert (asked.before_eur, asked.amount_eur) == (1000, 1500)
    assert asked.asked_at < asked.expires_at <= asked.asked_at + timedelta(days=14)
    assert is_open(asked)
    assert actions(organization) == ["budget.request_asked"]
    assert cap_of(organization) == 1000


def test_a_request_for_a_month_ends_with_the_month(organization: Organization) -> None:
    set_value(
        **{"key": "ai.budget.request.lifetime", "scope": "organization", "organization": organization},
        **{"value": "P60D", "acting": "the tests", "reason": "x"},
    )
    asked = asked_by(person("manager", organization), organization)
    assert asked.expires_at == clock.month_start(clock.next_month(asked.month), organization.time_zone)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 1001}, "reason"),
        ({"amount_eur": None}, "amount_eur"),
        ({"amount_eur": Decimal(-1)}, "amount_eur"),
        ({"amount_eur": Decimal("NaN")}, "amount_eur"),
        ({"scope": "user", "subject": "nobody"}, "subject"),
    ],
)
def test_a_bad_request_is_named_by_its_field(
    organization: Organization, wrong: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        asked_by("the tests", organization, **wrong)
    assert refused.value.param == param
    assert not ApprovalRequest.objects.filter(organization=organization).exists()


def test_a_month_can_be_asked_for_until_a_year_ahead(organization: Organization) -> None:
    month = present(organization)
    for bad in (month - timedelta(days=1), month + timedelta(days=400)):
        with pytest.raises(BadRequest, match="from this month on"):
            asked_by("the tests", organization, month=bad.replace(day=1))
    later = clock.next_month(clock.next_month(month))
    asked = asked_by("the tests", organization, month=later)
    approvals.approve(request_id=asked.pk, acting=person("finance", organization))
    assert open_month(organization=organization, month=later).cap_eur == 1500


def test_the_same_is_asked_for_once_at_a_time(organization: Organization) -> None:
    first = asked_by("one", organization)
    with pytest.raises(BadRequest, match="asked for already"):
        asked_by("another", organization)
    asked_by("another", organization, amount_eur=Decimal(1600))
    approvals.reject(request_id=first.pk, acting=person("finance", organization), reason="no")
    asked_by("one", organization)


def test_an_auditor_and_a_stranger_do_not_ask(make_organization: Make) -> None:
    ours = make_organization()
    for user in (person("auditor", ours), person("finance", make_organization())):
        with pytest.raises(PermissionDenied):
            asked_by(user, ours)


def test_who_made_a_key_stays_known_for_what_it_asks(organization: Organization) -> None:
    maker = person("finance", organization)
    key = key_of(maker, organization)
    with pytest.raises(ProtectedError):
        maker.delete()
    assert asked_by(key, organization).asked_by_user == maker


# --- To decide


@pytest.mark.parametrize("role", ["finance", "admin", OPERATOR])
def test_a_second_person_approves_and_the_cap_is_in_force(organization: Organization, role: str) -> None:
    asked = asked_by(person("finance", organization), organization)
    second = person(role, organization)
    approvals.approve(request_id=asked.pk, acting=second, reason="fine")
    assert cap_of(organization) == 1500
    asked.refresh_from_db()
    assert (asked.state, asked.decided_by, asked.decision_reason) == ("approved", second, "fine")
    assert actions(organization) == [
        *("budget.request_asked", "budget.cap_changed", "budget.request_approved")
    ]
    changed = AuditEntry.objects.get(organization=organization, action="budget.cap_changed")
    assert (changed.actor, changed.reason) == (second.email, "a fair")


def test_a_standing_cap_that_is_approved_holds_from_then_on(organization: Organization) -> None:
    asked = asked_by(person("finance", organization), organization, kind=RequestKind.STANDING_CAP)
    month_account(organization)
    approvals.approve(request_id=asked.pk, acting=person("admin", organization))
    assert cap_of(organization) == 1500
    assert not month_account(organization).cap_is_of_month
    later = clock.next_month(present(organization))
    assert open_month(organization=organization, month=later).cap_eur == 1500


@pytest.mark.parametrize("role", ["finance", "admin", OPERATOR])
@pytest.mark.parametrize("by_key", [False, True])
def test_nobody_decides_about_their_own_request(organization: Organization, role: str, by_key: bool) -> None:
    asker = person(role, organization)
    asked = asked_by(key_of(asker, organization) if by_key else asker, organization)
    assert asked.asked_by_user == asker
    for decide in (approvals.approve, approvals.reject):
        with pytest.raises(PermissionDenied, match="yourself"):
            decide(request_id=asked.pk, acting=asker, reason="mine")
    asked.refresh_from_db()
    assert (asked.state, cap_of(organization)) == ("open", 1000)
    assert asked not in waiting_for(asker)


@pytest.mark.parametrize("state", ["approved", "rejected"])
def test_the_database_too_keeps_the_two_apart(organization: Organization, state: str) -> None:
    asker = person("finance", organization)
    asked = asked_by(key_of(asker, organization), organization)
    row = ApprovalRequest.objects.filter(pk=asked.pk)
    for decider in (asker, None):
        with pytest.raises(IntegrityError, match="request_four_eyes"), transaction.atomic():
            row.update(state=state, decided_by=decider, decided_at=clock.now())
    assert row.get().state == "open"


def test_who_may_not_decide(make_organization: Make) -> None:
    ours = make_organization()
    asked = asked_by("the tests", ours)
    in_both = person("finance", make_organization())
    Member.objects.create(user=in_both, organization=ours, role="manager")
    for user, refusal in (
        (person("manager", ours), PermissionDenied),
        (person("auditor", ours), PermissionDenied),
        (in_both, PermissionDenied),
        (person("finance", make_organization()), NotFound),
        (person(None), NotFound),
    ):
        with pytest.raises(refusal):
            approvals.approve(request_id=asked.pk, acting=user)
    assert cap_of(ours) == 1000


def test_what_is_decided_is_decided(organization: Organization) -> None:
    finance, admin = person("finance", organization), person("admin", organization)
    asked = asked_by("the tests", organization)
    with pytest.raises(BadRequest) as refused:
        approvals.reject(request_id=asked.pk, acting=finance, reason=" ")
    assert refused.value.param == "reason"
    approvals.reject(request_id=asked.pk, acting=finance, reason="not this year")
    for again in (approvals.approve, approvals.reject):
        with pytest.raises(approvals.NotOpen, match="rejected"):
            again(request_id=asked.pk, acting=admin, reason="x")
    with pytest.raises(approvals.NotOpen):
        withdraw(request_id=asked.pk, acting="the tests")
    assert cap_of(organization) == 1000


def test_only_the_asker_withdraws(organization: Organization) -> None:
    asker = person("manager", organization)
    asked = asked_by(asker, organization)
    with pytest.raises(PermissionDenied):
        withdraw(request_id=asked.pk, acting=person("admin", organization))
    withdraw(request_id=asked.pk, acting=asker, reason="no need")
    asked.refresh_from_db()
    assert (asked.state, asked.decision_reason) == ("withdrawn", "no need")


def test_a_raise_that_was_overtaken_does_not_lower_the_cap(organization: Organization) -> None:
    asked = asked_by("the tests", organization)
    set_month_cap(account=month_account(organization), cap_eur=Decimal(2000), acting="x", reason="x")
    with pytest.raises(BadRequest, match="nothing left to raise"):
        approvals.approve(request_id=asked.pk, acting=person("finance", organization))
    asked.refresh_from_db()
    assert (asked.state, cap_of(organization)) == ("open", 2000)


def test_a_request_expires(organization: Organization, make_organization: Make) -> None:
    late, other = asked_by("the tests", organization), asked_by("the tests", make_organization())
    ApprovalRequest.objects.filter(pk=late.pk).update(expires_at=clock.now())
    with pytest.raises(approvals.NotOpen, match="expired"):
        approvals.approve(request_id=late.pk, acting=person("finance", organization))
    assert expire_requests() >= 1
    late.refresh_from_db()
    other.refresh_from_db()
    assert (late.state, other.state) == ("expired", "open")
    assert actions(organization)[-1] == "budget.request_expired"
    number = AuditEntry.objects.filter(organization=organization).count()
    expire_requests()
    assert AuditEntry.objects.filter(organization=organization).count() == number


# --- Races


def decided_at_once(asked: ApprovalRequest, calls: list[Callable[[], Any]]) -> list[Any]:
    """What comes of each call, where all have come to the request's row before any may go on."""
    outcomes: list[Any] = []

    def work(call: Callable[[], Any]) -> None:
        try:
            outcomes.append(call())
        except GatewayError as refused:
            outcomes.append(refused)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    with transaction.atomic():
        ApprovalRequest.objects.select_for_update().get(pk=asked.pk)
        for thread in threads:
            thread.start()
        wait_until_blocked(len(calls))
    for thread in threads:
        thread.join(timeout=WAIT_S)
    return outcomes


def wait_until_blocked(number: int) -> None:
    """Until so many connections wait for a lock."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone() == (number,):
                return
        time.sleep(0.02)
    raise TimeoutError("they do not come to the row")


def approvals_by(users: list[User], asked: ApprovalRequest) -> list[Callable[[], Any]]:
    return [partial(approvals.approve, request_id=asked.pk, acting=user) for user in users]


@pytest.mark.parametrize("amount", ["1500", "500"])
def test_of_several_approvers_at_once_one_approves(organization: Organization, amount: str) -> None:
    month_account(organization)
    asked = asked_by("the tests", organization, amount_eur=Decimal(amount))
    users = [person(role, organization) for role in ("finance", "finance", "admin", "admin")]
    outcomes = decided_at_once(asked, approvals_by(users, asked))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ApprovalRequest", *["NotOpen"] * 3]
    assert actions(organization).count("budget.cap_changed") == 1
    assert actions(organization).count("budget.request_approved") == 1
    assert cap_of(organization) == Decimal(amount)


def test_control_who_reads_first_approves_twice(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race that the conditional UPDATE wins does take place."""
    month_account(organization)
    asked = asked_by("the tests", organization, amount_eur=Decimal(500))

    def read_then_write(asked: ApprovalRequest, state: RequestState, *, by: Any, reason: str) -> bool:
        row = ApprovalRequest.objects.filter(pk=asked.pk)
        if row.get().state != RequestState.OPEN:
            return False
        return row.update(state=state, decided_by=by, decided_at=clock.now()) == 1

    monkeypatch.setattr(approvals, "_left_open", read_then_write)
    users = [person("finance", organization) for _ in range(2)]
    decided_at_once(asked, approvals_by(users, asked))
    assert actions(organization).count("budget.cap_changed") == 2


def test_the_asker_does_not_slip_in_beside_an_approver(organization: Organization) -> None:
    """Refused before it comes to the row, whoever else is there."""
    month_account(organization)
    asker, second = person("finance", organization), person("finance", organization)
    asked = asked_by(key_of(asker, organization), organization)
    calls = [
        partial(withdraw, request_id=asked.pk, acting=asker),
        partial(approvals.approve, request_id=asked.pk, acting=second),
    ]
    with pytest.raises(PermissionDenied):
        approvals.approve(request_id=asked.pk, acting=asker)
    outcomes = decided_at_once(asked, calls)
    assert sum(isinstance(outcome, approvals.NotOpen) for outcome in outcomes) == 1
    asked.refresh_from_db()
    assert (cap_of(organization) == 1500) is (asked.state == RequestState.APPROVED)
    assert asked.state != RequestState.APPROVED or asked.decided_by == second
