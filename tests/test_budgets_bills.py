"""Bills come in, again and again, and are compared with the ledger; differences are posted or accepted."""

import random
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from aigov import clock
from aigov.errors import BadRequest
from aigov.organizations.models import AuditEntry, Organization, User
from aigov.registry.values import remove_value, set_value
from budgets import accounts, bill_watch, bills, tasks
from budgets.approvals import approve, reject
from budgets.bills import import_file, import_from_provider, keep_file
from budgets.differences import accept_difference, choices_of, due, post_difference, pro_rata
from budgets.models import LATE_ANSWER, AcceptedDifference, BillDay, BillImport, BillLine, CostRecord
from budgets.reconciliation import ZERO, ProviderMonth, bare_model, delta, deltas, edges, is_reconciled
from providers import billing
from providers.errors import BadCredentials, Malformed, NotSent, TimedOut
from tests.admin_world import person
from tests.bills_world import Maker, add_to_bill, bill, call_at, charge, noon, own_month
from tests.sandbox_world import configure

pytest_plugins = ["tests.sandbox_fixtures"]

#: What a call of `call_at` costs, in dollars.
COST = Decimal("0.1025")
PLAIN = "provider,day,model,amount_usd\n"


@pytest.fixture
def month() -> date:
    return own_month()


@pytest.fixture
def operator() -> User:
    return person("operator")


def lines_of(month: date) -> list[tuple[date, str, Decimal]]:
    lines = BillLine.objects.filter(bill_day__day__gte=month, bill_day__day__lt=clock.next_month(month))
    return list(
        lines.order_by("bill_day__day", "description").values_list(
            "bill_day__day", "description", "amount_usd"
        )
    )


def entries(action: str, target: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action, target__contains=target).order_by("id"))


def of_openai(month: date) -> ProviderMonth:
    found = delta(month, "openai")
    assert found is not None
    return found


# --- Read from the providers


def test_a_bill_that_is_read_again_changes_nothing(
    billed: httpx2.Client, organization: Organization, month: date
) -> None:
    add_to_bill(billed, [call_at(organization, noon(month)), call_at(organization, noon(month))])
    read: Any = {
        "provider": "openai",
        "first": month,
        "last": month + timedelta(days=9),
        "acting": "the tests",
    }
    assert len(import_from_provider(**read)) == 10
    before = lines_of(month), BillImport.objects.count(), AuditEntry.objects.count()
    assert [amount for _day, _item, amount in before[0]] == [Decimal("0.005"), Decimal("0.2")]
    assert import_from_provider(**read) == []
    assert (lines_of(month), BillImport.objects.count(), AuditEntry.objects.count()) == before


def test_a_bill_that_has_changed_replaces_what_was_known_and_says_so(
    billed: httpx2.Client, organization: Organization, month: date
) -> None:
    read: Any = {
        "provider": "openai",
        "first": month,
        "last": month + timedelta(days=2),
        "acting": "the tests",
    }
    add_to_bill(
        billed, [call_at(organization, noon(month)), call_at(organization, noon(month + timedelta(days=1)))]
    )
    import_from_provider(**read)
    configure(billed, bill_faults=[{"day": month.isoformat(), "percent": 10}])
    [change] = import_from_provider(**read)
    assert (change.day, change.before_usd, change.after_usd) == (month, COST, COST * Decimal("1.1"))
    [entry] = entries("bill.change", f"OpenAI {month}")
    assert (entry.before, entry.after) == ({"amount_usd": "0.1025"}, {"amount_usd": "0.11275"})
    assert sum(amount for _day, _item, amount in lines_of(month)) == COST * Decimal("2.1")


def test_two_that_read_at_once_write_one_bill(
    billed: httpx2.Client, organization: Organization, month: date, django_db_blocker: Any
) -> None:
    add_to_bill(billed, [call_at(organization, noon(month))])
    changes: list[int] = []

    def read() -> None:
        with django_db_blocker.unblock():
            changes.append(
                len(import_from_provider(provider="openai", first=month, last=month, acting="the tests"))
            )
            connection.close()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changes) == [0, 0, 0, 1]
    assert len(lines_of(month)) == 2


def test_why_a_bill_cannot_be_had(billed: httpx2.Client, settings: Any, url: str, monkeypatch: Any) -> None:
    day = date(2022, 1, 1)
    settings.BILLING = {"openai": ("sk-1", f"{url}/v1"), "anthropic": ("sk-ant-admin", "http://127.0.0.1:1")}
    with pytest.raises(BadCredentials):
        billing.read_bill("openai", day, day)
    with pytest.raises(NotSent):
        billing.read_bill("anthropic", day, day)
    settings.BILLING["openai"] = ("sk-admin", f"{url}/v1")
    configure(billed, faults=[{"mode": "malformed", "times": 1}])
    with pytest.raises(Malformed):
        billing.read_bill("openai", day, day)
    monkeypatch.setattr(billing, "ANSWER_WAIT_S", 0.2)
    configure(billed, faults=[{"mode": "hang", "times": 1}])
    with pytest.raises(TimedOut):
        billing.read_bill("openai", day, day)
    monkeypatch.setattr(billing, "PAGES_MAX", 1)
    monkeypatch.setattr(billing, "PAGE_DAYS", 2)
    with pytest.raises(Malformed, match="pages"):
        billing.read_bill("openai", day, day + timedelta(days=5))
    with pytest.raises(ValueError, match="days"):
        billing.read_bill("openai", day, day - timedelta(days=1))
    assert not BillDay.objects.filter(day=day).exists()


def test_the_bill_is_in_dollars_alone() -> None:
    with pytest.raises(Malformed, match="dollars"):
        billing._check_currency("eur", "openai")
    with pytest.raises(IntegrityError), transaction.atomic():
        bill("openai", date(2021, 1, 1), {})
        BillDay.objects.filter(day=date(2021, 1, 1)).update(currency="EUR")


def test_the_last_days_are_read_of_whoever_can_be_asked(
    billed: httpx2.Client, organization: Organization, settings: Any, url: str
) -> None:
    settings.BILLING = {"anthropic": ("wrong", url), "openai": ("sk-admin-1", f"{url}/v1")}
    today = clock.now().date()
    BillDay.objects.filter(day__gte=today - timedelta(days=20)).delete()
    tasks.import_bills()
    tasks.import_bills()
    read = BillDay.objects.filter(day__gte=today - timedelta(days=20))
    assert [row.day for row in read.filter(provider="openai")] == [
        today - timedelta(days=n) for n in range(8, 0, -1)
    ]
    assert not read.filter(provider="anthropic").exists()
    read.delete()


# --- From files


def kept(text: str, operator: User) -> BillImport:
    return keep_file(name="bill.csv", content=text.encode(), acting=operator)


def test_a_file_is_imported_when_somebody_says_so(month: date, operator: User) -> None:
    file = kept(f"{PLAIN}openai,{month},gpt-4o,1\nopenai,{month},gpt-4o,0.5\n", operator)
    assert lines_of(month) == []
    [change] = import_file(import_id=file.pk, without_errors=False, acting=operator, reason="October's")
    assert (change.before_usd, change.after_usd) == (None, Decimal("1.5"))
    assert lines_of(month) == [(month, "gpt-4o", Decimal("1.5"))]
    assert entries("bill.import", "bill.csv")[-1].reason == "October's"
    file.refresh_from_db()
    assert file.content is None and file.imported_at is not None
    with pytest.raises(BadRequest, match="no longer waits"):
        import_file(import_id=file.pk, without_errors=False, acting=operator)


def test_a_file_with_a_bad_row_is_not_imported_unless_told_so(month: date, operator: User) -> None:
    file = kept(f"{PLAIN}openai,{month},gpt-4o,1\nopenai,{month},gpt-4o,x\n", operator)
    with pytest.raises(BadRequest, match="nothing was imported"):
        import_file(import_id=file.pk, without_errors=False, acting=operator)
    assert lines_of(month) == []
    import_file(import_id=file.pk, without_errors=True, acting=operator)
    assert lines_of(month) == [(month, "gpt-4o", Decimal(1))]


def test_files_that_nobody_confirms_are_forgotten(month: date, operator: User, monkeypatch: Any) -> None:
    file = kept(f"{PLAIN}openai,{month},gpt-4o,1\n", operator)
    BillImport.objects.filter(pk=file.pk).update(created_at=clock.now() - timedelta(days=2))
    other = kept(f"{PLAIN}openai,{month},gpt-4o,1\n", operator)
    assert bills.waiting_file(file.pk) is None and bills.waiting_file(other.pk) is not None
    monkeypatch.setattr(bills, "FILES_WAITING_MAX", 1)
    with pytest.raises(BadRequest, match="Too many"):
        kept(f"{PLAIN}openai,{month},gpt-4o,1\n", operator)


# --- Compared


def test_names_of_models_with_and_without_dates() -> None:
    named = ("gpt-4o-2024-08-06", "claude-haiku-4-5-20251001", "Claude Haiku 4.5", "gpt-4o", "gpt-4o-latest")
    assert [bare_model(name) for name in named] == [
        "gpt-4o",
        "claude-haiku-4-5",
        "claude-haiku-4-5",
        "gpt-4o",
        "gpt-4o",
    ]


def test_a_day_that_is_not_on_the_bill_is_named(organization: Organization, month: date) -> None:
    charge([call_at(organization, noon(month)), call_at(organization, noon(month + timedelta(days=1)))])
    assert of_openai(month).state == "no_bill" and not is_reconciled(month)
    bill("openai", month, {"gpt-4o-2024-08-06": "0.1025"})
    bill("openai", month + timedelta(days=1), {})
    found = of_openai(month)
    assert found.state == "incomplete" and [one.day for one in found.missing] == [month + timedelta(days=1)]
    assert found.total.delta_usd == -COST
    assert [finding.key for finding in bill_watch.findings(month)] == ["openai"]


def test_a_day_that_is_not_over_is_compared_until_its_bill_was_read(
    organization: Organization, month: date, monkeypatch: Any
) -> None:
    """As if it was the evening of the month's second day."""
    second = noon(month + timedelta(days=1))
    monkeypatch.setattr(clock, "now", lambda: second + timedelta(hours=8))
    charge([call_at(organization, second), call_at(organization, second + timedelta(hours=4))])
    assert deltas(month) == []
    bill("openai", second.date(), {"gpt-4o": "0.1025"}, covers_until=second + timedelta(hours=1))
    found = of_openai(month)
    assert (found.state, found.total.calls, found.days[0].is_over) == ("within", 1, False)
    shown = edges(month, [found])
    assert shown.not_compared == shown.compared == found.total.ledger_eur
    assert shown.spent == 2 * shown.compared


def test_within_the_tolerance_is_none(organization: Organization, month: date, operator: User) -> None:
    charge([call_at(organization, noon(month))])
    bill("openai", month, {"gpt-4o": "0.1035"})
    assert of_openai(month).state == "reconciled" and is_reconciled(month)
    told: Any = {"scope": "global", "acting": "the tests", "reason": "a test"}
    set_value(key="ai.reconciliation.tolerance.ratio", value=0.001, **told)
    try:
        assert of_openai(month).state == "out_of_bounds" and not of_openai(month).is_model_within("gpt-4o")
        set_value(key="ai.reconciliation.tolerance.usd", value=0.01, **told)
        assert of_openai(month).state == "reconciled"
        remove_value(key="ai.reconciliation.tolerance.usd", **told)
    finally:
        remove_value(key="ai.reconciliation.tolerance.ratio", **told)


def test_calls_of_others_with_the_same_key_are_on_the_bill_alone(
    organization: Organization, month: date
) -> None:
    bill("openai", month, {"gpt-4o": "3", "": "0.5"})
    found = of_openai(month)
    assert (found.total.ledger_usd, found.total.delta_usd, found.state) == (
        0,
        Decimal("3.5"),
        "out_of_bounds",
    )
    assert found.total.ratio == 1 and found.total.delta_eur > 3
    with pytest.raises(BadRequest, match="nobody can bear"):
        post_difference(month=month, provider="openai", reason="r", acting=person("operator"))


def test_an_estimate_that_was_put_right_counts_as_it_is(organization: Organization, month: date) -> None:
    charge([call_at(organization, noon(month))], estimated=True)
    assert of_openai(month).total.estimated_usd == COST
    record = CostRecord.objects.get(organization=organization)
    correct(record, LATE_ANSWER, usd=Decimal("-0.1"))
    found = of_openai(month).total
    assert (found.estimated_usd, found.ledger_usd, found.corrections_usd) == (0, COST - Decimal("0.1"), 0)


def test_a_correction_counts_on_the_day_of_its_call(organization: Organization, month: date) -> None:
    charge([call_at(organization, noon(month))])
    record = CostRecord.objects.get(organization=organization)
    correct(record, "agreed with the provider", usd=None)
    found = of_openai(month)
    assert found.total.corrections_usd == found.days[0].total.corrections_usd == -COST / 2
    shown = edges(month, [found])
    assert (shown.spent, shown.compared) == (record.cost_eur, record.cost_eur / 2)
    assert shown.corrections == -record.cost_eur / 2


def correct(record: CostRecord, reason: str, *, usd: Decimal | None) -> None:
    """A correction of a charge, in the present month: by `usd`, or by half of it, in euro alone."""
    present = accounts.open_month(organization=record.organization).month
    assert record.eur_per_usd is not None
    eur = -record.cost_eur / 2 if usd is None else (usd * record.eur_per_usd).quantize(Decimal("1e-9"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_move(%s, %s, '', '', %s, 0)", [record.organization_id, present, eur])
    CostRecord.objects.create(
        organization=record.organization,
        month=present,
        provider=record.provider,
        model=record.model,
        corrects=record,
        created_at=clock.now(),
        cost_eur=eur,
        cost_usd=usd,
        reason=reason,
    )


# --- Differences


def test_a_difference_that_is_posted_is_none_any_more(
    make_organization: Maker, month: date, operator: User
) -> None:
    big, small = make_organization(), make_organization()
    at = noon(month)
    charge([call_at(big, at), call_at(big, at), call_at(small, at)])
    charge([call_at(small, at, model="gpt-4o-mini")])
    bill("openai", month, {"gpt-4o": "0.6075", "gpt-4o-mini": "0.01"})
    before = of_openai(month)
    told: Any = {"month": month, "provider": "openai", "reason": "as billed", "acting": operator}
    requests = post_difference(**told)
    total = sum(request.amount_eur or 0 for request in requests)
    assert total == pytest.approx(before.total.delta_eur, abs=Decimal("2e-9"))
    # Two thirds of gpt-4o's difference is the big one's; gpt-4o-mini's is the small one's alone.
    assert [request.organization for request in requests] == [big, small]
    two_thirds = before.models["gpt-4o"].delta_eur * 2 / 3
    assert requests[0].amount_eur == pytest.approx(two_thirds, abs=Decimal("2e-9"))
    assert of_openai(month).state == "waiting"
    with pytest.raises(BadRequest, match="wait for a second person"):
        post_difference(**told)
    for request in requests:
        approve(request_id=request.pk, acting=person("operator"))
    after = of_openai(month)
    assert after.state == "reconciled" and abs(after.open_usd) < Decimal("1e-8")
    assert is_reconciled(month)


def test_a_models_difference_is_posted_alone(organization: Organization, month: date, operator: User) -> None:
    at = noon(month)
    charge([call_at(organization, at), call_at(organization, at, model="gpt-4o-mini")])
    bill("openai", month, {"gpt-4o": "0.05", "gpt-4o-mini": "1"})
    told: Any = {"month": month, "provider": "openai", "reason": "r", "acting": operator}
    [request] = post_difference(model="gpt-4o", **told)
    assert (request.model, request.amount_eur and request.amount_eur < 0) == ("gpt-4o", True)
    with pytest.raises(BadRequest):
        post_difference(model="gpt-nothing", **told)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_some_were_approved_the_rest_is_borne_by_the_others(
    make_organization: Maker, month: date, operator: User, seed: int
) -> None:
    """Each round, a second person approves some of the corrections and rejects the others."""
    chances, at = random.Random(seed), noon(month)
    organizations = [make_organization() for _ in range(4)]
    models = ("gpt-4o", "gpt-4o-mini")
    for organization in organizations:
        charge(
            [call_at(organization, at, model=chances.choice(models)) for _ in range(chances.randint(1, 5))]
        )
    bill("openai", month, {"gpt-4o": "1.7000001", "gpt-4o-mini": "0.0123457", "gpt-other": "0.07"})
    difference = {share.organization.pk: share.amount_eur for share in choices_of(month, "openai")[""]}
    borne: dict[int, Decimal] = {}
    while True:
        try:
            requests = post_difference(month=month, provider="openai", reason="as billed", acting=operator)
        except BadRequest as over:
            assert over.message == "There is no difference."
            break
        approved = chances.sample(requests, chances.randint(1, len(requests)))
        for request in requests:
            if request in approved:
                approve(request_id=request.pk, acting=person("operator"))
                assert request.amount_eur is not None and request.organization_id not in borne
                borne[request.organization_id] = request.amount_eur
            else:
                reject(request_id=request.pk, acting=person("operator"), reason="not ours")
        if len(borne) < len(difference):
            with pytest.raises(BadRequest, match="can only be posted for all"):
                post_difference(month=month, provider="openai", model="gpt-4o", reason="r", acting=operator)
    assert borne == difference
    assert abs(of_openai(month).open_usd) < Decimal("1e-8")


def test_what_is_accepted_holds_for_that_amount(
    organization: Organization, month: date, operator: User
) -> None:
    charge([call_at(organization, noon(month))])
    day = bill("openai", month, {"gpt-4o": "0.2"})
    told: Any = {"month": month, "provider": "openai", "acting": operator}
    with pytest.raises(BadRequest) as refused:
        accept_difference(reason=" ", **told)
    assert refused.value.param == "reason"
    accepted = accept_difference(reason="a colleague's tests with the same key", **told)
    assert accepted.amount_usd == Decimal("0.2") - COST
    assert is_reconciled(month) and of_openai(month).open_usd == 0
    assert entries("bill.accept", f"OpenAI {month:%Y-%m}")[-1].reason == accepted.reason
    with pytest.raises(BadRequest, match="no difference"):
        accept_difference(reason="again", **told)
    with pytest.raises(BadRequest, match="accepted"):
        post_difference(reason="r", **told)
    BillLine.objects.filter(bill_day=day).update(amount_usd=Decimal("0.3"))
    assert of_openai(month).open_usd == Decimal("0.1") and not is_reconciled(month)


def test_nothing_is_done_about_a_month_that_is_not_over(organization: Organization, operator: User) -> None:
    present = clock.now().date().replace(day=1)
    told: Any = {"month": present, "provider": "openai", "reason": "r", "acting": operator}
    row = bill("openai", present, {"gpt-4o": "1000000"}, covers_until=datetime(2020, 1, 1, tzinfo=UTC))
    try:
        for refused in (lambda: accept_difference(**told), lambda: post_difference(**told)):
            with pytest.raises(BadRequest, match="not over"):
                refused()
        assert not is_reconciled(present)
    finally:
        row.delete()
    assert not AcceptedDifference.objects.filter(month=present).exists()


@given(
    st.integers(min_value=-(10**15), max_value=10**15),
    st.lists(st.integers(min_value=1, max_value=10**15), min_size=1, max_size=20),
)
def test_a_split_adds_up_to_the_nano_euro(nanos: int, costs: list[int]) -> None:
    amount = Decimal(nanos).scaleb(-9)
    weights = {key: Decimal(cost).scaleb(-9) for key, cost in enumerate(costs)}
    shares = pro_rata(amount, weights)
    assert sum(shares.values()) == amount
    for key, share in shares.items():
        assert abs(share - amount * costs[key] / sum(costs)) < Decimal("1.001e-9")
        assert share * amount >= 0


nano_euros = st.integers(min_value=-(10**12), max_value=10**12).map(lambda nanos: Decimal(nanos).scaleb(-9))
costs = st.integers(min_value=1, max_value=10**12).map(lambda nanos: Decimal(nanos).scaleb(-9))


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), nano_euros, min_size=1),
    st.dictionaries(
        st.integers(0, 5), st.dictionaries(st.sampled_from(["a", "b"]), costs, min_size=1), min_size=1
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_is_approved_in_each_round_everybody_bears_their_share_once(
    differences: dict[str, Decimal], spent: dict[int, dict[str, Decimal]], chances: random.Random
) -> None:
    paid: dict[str, dict[int, Decimal]] = {"": {who: sum(own.values(), ZERO) for who, own in spent.items()}}
    for who, own in spent.items():
        for model, cost in own.items():
            paid.setdefault(model, {})[who] = cost
    shares = due(differences, paid, [])
    rounds: list[dict[int, Decimal]] = []
    while left := due(differences, paid, rounds):
        assert left.items() <= shares.items()
        approved = chances.sample(sorted(left), chances.randint(1, len(left)))
        rounds.append({who: left[who] for who in approved})
    borne = [amounts for own in rounds for amounts in own.items()]
    assert sorted(borne) == sorted(shares.items())
    assert sum((amount for _who, amount in borne), ZERO) == sum(differences.values(), ZERO)
