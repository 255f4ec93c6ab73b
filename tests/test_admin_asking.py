"""What takes a second person at a month's end: a correction, a reopening, from the button to the books."""

from decimal import Decimal
from uuid import uuid4

import pytest

from aigov.errors import BadRequest
from aigov.organizations.models import Organization
from budgets.approvals import approve, ask
from budgets.closing import close_month, is_closed
from budgets.corrections import net_cost, post_correction
from budgets.models import ApprovalRequest, CostRecord
from tests.admin_world import as_role, change_page, errors_of, logged_in, person, text_of
from tests.ledger_world import charge_of, last_month, reserve, settle
from tests.test_admin_closing import month_of, with_ledger


@pytest.fixture
def record(organization: Organization) -> CostRecord:
    """A charge of 0.2 euro of last month."""
    charge, hold_id = charge_of(organization, month=last_month(organization)), uuid4()
    with_ledger(lambda: reserve(charge, "0.5", hold_id=hold_id))
    with_ledger(lambda: settle(hold_id, "0.2"))
    return CostRecord.objects.get(hold_id=hold_id)


def correct_page(record: CostRecord) -> str:
    return change_page(record).replace("/change/", "/ask-to-correct/")


def test_a_correction_is_asked_for_approved_and_posted(
    organization: Organization, record: CostRecord
) -> None:
    client = as_role("finance", organization)
    assert correct_page(record) in text_of(client.get(change_page(record)))
    asked = client.post(correct_page(record), {"true_cost": "0.05", "reason": "a wrong price"}, follow=True)
    assert "-0.15" in text_of(asked)
    assert correct_page(record) not in text_of(asked), "one is asked for at a time"
    request = ApprovalRequest.objects.get(corrects=record)
    assert (request.amount_eur, request.kind) == (Decimal("-0.15"), "correction")
    approve(request_id=request.pk, acting=person("finance", organization))
    assert net_cost(record) == Decimal("0.05")
    correction = record.corrections.get()
    assert (correction.request, correction.reason) == (request, "a wrong price")
    page = text_of(client.get(change_page(correction)))
    assert correct_page(correction) not in page, "it is a correction itself"


def test_an_implausible_correction_is_doubted_before_both_people_and_not_refused(
    organization: Organization, record: CostRecord
) -> None:
    asking, deciding = as_role("finance", organization), as_role("finance", organization)
    given = {"true_cost": "99999999", "reason": "a slip of the pen"}
    asked = text_of(asking.post(correct_page(record), given, follow=True))
    request = ApprovalRequest.objects.get(corrects=record)
    page = change_page(request)
    for shown in (
        asked,
        *(text_of(deciding.get(at)) for at in (page, page.replace("/change/", "/approve/"))),
    ):
        assert "more than 10 times the" in shown
        assert "more than the cap of" in shown
    approve(request_id=request.pk, acting=person("finance", organization))
    assert net_cost(record) == Decimal(99_999_999)


@pytest.mark.parametrize("true_cost", ["5", "0.1"])
def test_a_plausible_correction_is_not_doubted(
    organization: Organization, record: CostRecord, true_cost: str
) -> None:
    client = as_role("finance", organization)
    given = {"true_cost": true_cost, "reason": "as billed"}  # ten times what was held, and not more
    assert "look twice" not in text_of(client.post(correct_page(record), given, follow=True))
    request = ApprovalRequest.objects.get(corrects=record)
    assert "look twice" not in text_of(client.get(change_page(request)))


def test_one_charge_is_not_corrected_twice_by_the_same_difference(
    organization: Organization, record: CostRecord
) -> None:
    client = as_role("finance", organization)
    wanted = {"true_cost": "0.05", "reason": "a wrong price"}
    client.post(correct_page(record), wanted)
    asked = ApprovalRequest.objects.get(corrects=record)
    with pytest.raises(BadRequest, match="asked for already"):
        ask_again(asked)
    # Meanwhile the charge has come to another cost.
    post_correction(
        organization=organization,
        month=record.month,
        amount_eur=Decimal("-0.1"),
        corrects=record,
        request=None,
        reason="found by the ledger",
        acting="the tests",
    )
    with pytest.raises(BadRequest, match="by now"):
        approve(request_id=asked.pk, acting=person("finance", organization))
    assert net_cost(record) == Decimal("0.1")


def ask_again(asked: ApprovalRequest) -> None:
    ask(
        organization=asked.organization,
        kind=asked.kind,
        month=asked.month,
        amount_eur=asked.amount_eur,
        corrects=asked.corrects,
        reason="again",
        acting="the tests",
    )


@pytest.mark.parametrize("given", ["", "-1", "0.2"])
def test_what_is_no_correction_is_refused_at_its_field(
    organization: Organization, record: CostRecord, given: str
) -> None:
    response = as_role("finance", organization).post(
        correct_page(record), {"true_cost": given, "reason": "x"}
    )
    assert "true_cost" in errors_of(response)
    assert not ApprovalRequest.objects.filter(organization=organization).exists()


def test_a_month_is_reopened_by_a_second_person(organization: Organization, record: CostRecord) -> None:
    month = month_of(organization, record.month)
    close_month(organization=organization, month=month.month, acting="finance", reason="x")
    address = change_page(month).replace("/change/", "/ask-to-reopen/")
    client = as_role("finance", organization)
    assert address in text_of(client.get(change_page(month)))
    page = text_of(client.post(address, {"reason": "a bill came late"}, follow=True))
    assert "has asked for it to be reopened; a second person decides." in page
    assert address not in page
    request = ApprovalRequest.objects.get(organization=organization, kind="reopening")
    second = person("admin", organization)
    approve(request_id=request.pk, acting=second)
    assert not is_closed(organization.pk, month.month)
    page = text_of(client.get(change_page(month)))
    assert f"{second.email} approved: a bill came late" in page


@pytest.mark.parametrize("role", ["manager", "auditor"])
def test_who_only_looks_asks_for_neither(organization: Organization, record: CostRecord, role: str) -> None:
    month = month_of(organization, record.month)
    close_month(organization=organization, month=month.month, acting="finance", reason="x")
    client = logged_in(person(role, organization))
    for page, button in ((record, "ask-to-correct"), (month, "ask-to-reopen")):
        address = change_page(page).replace("/change/", f"/{button}/")
        assert address not in text_of(client.get(change_page(page)))
        assert client.post(address, {"true_cost": "0", "reason": "x"}).status_code == 403
