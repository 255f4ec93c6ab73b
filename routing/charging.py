"""The money of one attempt: its worst case is held before the call, and each way it can end has a charge.

Between the providers' prices (US dollars, tokens) and the ledger (euro, holds) stands this module alone.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from aigov import clock
from aigov.errors import BudgetExceeded, BudgetUnavailable, ModelNotPriced
from aigov.money import ZERO
from budgets import ledger
from budgets.balances import balances
from budgets.fx import FX_TABLE, Rate, to_eur
from budgets.ledger import Balance, Charge, TrueCost
from budgets.models import Scope
from providers import pricing
from providers.errors import ProviderError
from providers.failover import Candidate
from providers.price_book import PRICE_BOOK
from providers.pricing import PriceRow, Unpriced
from providers.types import ProviderReply, ProviderRequest
from routing.course import Attempt, Completion, Course

log = logging.getLogger(__name__)

REQUEST_ID_CHARACTERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Hold:
    """What was fixed when the hold was taken, and what its end goes by."""

    id: UUID
    price: PriceRow
    rate: Rate
    amount_eur: Decimal
    taken_at: datetime


async def take_hold(course: Course, attempt: Attempt, request: ProviderRequest) -> Hold:
    """Holds the worst case of `request` under every cap that applies.

    Raises:
        BudgetExceeded: it does not fit; the attempt is noted as refused.
        ModelNotPriced: nobody knows what the model costs.
        BudgetUnavailable: no ledger, no call.
    """
    now, candidate = clock.now(), attempt.candidate
    price, rate = _price_of(candidate, now), _rate(now)
    amount_usd = pricing.worst_case_usd(
        price,
        input_tokens_max=pricing.input_tokens_bound(request, provider=candidate.provider),
        output_tokens_max=request.max_output_tokens,
    )
    charge = _charge(course, attempt, price, rate, now)
    hold = Hold(uuid4(), price, rate, to_eur(amount_usd, rate), now)
    try:
        taken = await ledger.reserve(
            hold_id=hold.id, charge=charge, amount_eur=hold.amount_eur, amount_usd=amount_usd
        )
    except BudgetExceeded as error:
        attempt.outcome, attempt.error = "refused_budget", error.code
        raise
    except BudgetUnavailable as error:
        attempt.error = error.code
        raise
    course.balance, course.resets_at = taken.balance, taken.resets_at
    return hold


async def note_balance(course: Course) -> Balance:
    """Reads the organization's figures, where no hold has told them."""
    principal = course.principal
    month = clock.month_of(clock.now(), principal.time_zone)
    found = await balances(organization_id=principal.organization_id, month=month, user="")
    course.balance = found[Scope.ORGANIZATION]
    course.resets_at = clock.month_start(clock.next_month(month), principal.time_zone)
    return course.balance


async def charge_answer(course: Course, attempt: Attempt, hold: Hold, reply: ProviderReply) -> None:
    """Settles the hold at what the answer cost, by the service tier that came back."""
    usage = reply.usage
    try:
        price = _price_on_tier(hold, usage.service_tier)
    except Unpriced:
        log.error("%s answered on service tier %r, which has no price", hold.price.model, usage.service_tier)
        await _charge_estimated(course, attempt, hold, "unpriced_service_tier")
        return
    cost_usd = pricing.true_cost_usd(price, usage)
    attempt.cost_eur = to_eur(cost_usd, hold.rate)
    if attempt.cost_eur > hold.amount_eur:
        log.error("overrun: hold %s of %s € cost %s €", hold.id, hold.amount_eur, attempt.cost_eur)
    cost = TrueCost(
        cost_eur=attempt.cost_eur,
        cost_usd=cost_usd,
        usage=usage,
        raw_usage=reply.raw_usage,
        provider_request_id=(reply.request_id or "")[:REQUEST_ID_CHARACTERS_MAX],
        price_id=price.id,
    )
    course.balance = await ledger.settle(hold_id=hold.id, cost=cost) or course.balance


async def charge_failure(course: Course, attempt: Attempt, hold: Hold, error: ProviderError) -> None:
    """Voids the hold where nothing can have been billed; else charges what came before the break, if that is
    known, or the whole hold, as estimated."""
    attempt.error = error.kind
    if error.alert:
        log.error("%s needs attention: %s", attempt.candidate.provider, error.message)
    if error.billed == "no":
        await ledger.void(hold_id=hold.id)
    elif error.reply is not None:
        await charge_answer(course, attempt, hold, error.reply)
    else:
        await _charge_estimated(course, attempt, hold, error.kind)


async def charge_unknown(course: Course, attempt: Attempt, hold: Hold) -> None:
    """Charges a call whole that a defect of ours or the end of the process broke off."""
    attempt.error = "broken_off"
    await _charge_estimated(course, attempt, hold, "broken_off")


async def _charge_estimated(course: Course, attempt: Attempt, hold: Hold, reason: str) -> None:
    attempt.cost_eur, attempt.estimated = hold.amount_eur, True
    course.balance = await ledger.settle_estimated(hold_id=hold.id, reason=reason) or course.balance


def all_large_eur(completion: Completion) -> Decimal | None:
    """What the answer would have cost had every request gone to the large model at once, in euro.

    An answer of a large model: what its large calls cost. Any other, and one from the cache: its tokens at
    the present price of the large model of the provider that gave it; None where nobody knows that price.
    """
    course, answer = completion.course, completion.answer
    if answer.tier == "large" and not completion.cached:
        large = (attempt.cost_eur for attempt in course.attempts if attempt.candidate.tier == "large")
        return sum(large, ZERO)
    now, book, rates = clock.now(), PRICE_BOOK.latest, FX_TABLE.latest
    model = course.policy.models[answer.provider].get("large")
    if book is None or rates is None or model is None:
        return None
    try:
        price, rate = book.at(answer.provider, model, "standard", now), rates.on(now.date())
    except LookupError:
        return None
    return to_eur(pricing.true_cost_usd(price, answer.usage), rate)


def _charge(course: Course, attempt: Attempt, price: PriceRow, rate: Rate, now: datetime) -> Charge:
    """What the hold fixes."""
    return Charge(
        organization_id=course.principal.organization_id,
        time_zone=course.principal.time_zone,
        month=clock.month_of(now, course.principal.time_zone),
        user=course.request.user,
        use_case=course.request.use_case,
        completion_id=course.id,
        attempt=course.attempts.index(attempt),
        provider=attempt.candidate.provider,
        model=attempt.candidate.model,
        tier=attempt.candidate.tier,
        price_id=price.id,
        fx_rate_id=rate.id,
        metadata=course.request.metadata,
    )


def _price_on_tier(hold: Hold, service_tier: str) -> PriceRow:
    """The row that the hold fixed, or its sister for another service tier at the same instant."""
    fixed = hold.price
    if service_tier == fixed.service_tier:
        return fixed
    book = PRICE_BOOK.latest  # a paid answer is settled, however old the copy is
    if book is None:
        raise Unpriced(fixed.provider, fixed.model, service_tier)
    return book.at(fixed.provider, fixed.model, service_tier, hold.taken_at)


def _price_of(candidate: Candidate, now: datetime) -> PriceRow:
    try:
        return PRICE_BOOK.current.at(candidate.provider, candidate.model, "standard", now)
    except Unpriced as error:
        raise ModelNotPriced(
            f"The model {candidate.model!r} of {candidate.provider} has no price, so it cannot be called.",
            param="model",
        ) from error


def _rate(now: datetime) -> Rate:
    try:
        return FX_TABLE.current.on(now.date())
    except LookupError as error:
        raise ModelNotPriced(
            "There is no exchange rate from US dollars to euro, so nothing is called."
        ) from error
