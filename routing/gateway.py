"""The one way of a request to a model: small first, large where it is needed and the budget allows.

    complete   the answer of an identical request, else a new one; record the decision
    _route     the small model's answer where it is sure enough, else the large one's, else the small one's
    _ask       the tier's models in turn, but for those whose circuit is open, until one answers
    _attempt   hold the worst case → call the provider → settle → judge the answer

Only this module asks for an answer, and only under a hold. Each hold is ended before its attempt is over,
whatever happens: settled at the true cost, charged in full where the call may have been billed, or voided
where it was not.

A streamed answer is one model's: until its first words another model may be asked, and after them none is.
Where the small model's answer is to be judged, it is judged before its first word goes out.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings

from aigov.errors import AnswerBroken, BadRequest, GatewayError, NoProviderAvailable
from providers.adapters import open_adapters
from providers.adapters.base import Adapter
from providers.breaker import breaker
from providers.errors import Deserted, Malformed, ProviderError, TimedOut
from providers.failover import Candidate, RetryBudget
from providers.types import ProviderReply, ProviderRequest, StreamItem, StreamStart, Tier
from routing import cache, charging, decisions, demotion, policy
from routing.cache import Remembered
from routing.candidates import candidates_of, provider_request
from routing.course import Answer, Attempt, Completion, Course
from routing.hedging import hedged
from routing.judging import judge
from routing.listener import DRAIN_S, Listener
from routing.policy import Route

#: Each running loop's adapters: their connections belong to it.
_adapters: WeakKeyDictionary[asyncio.AbstractEventLoop, Mapping[str, Adapter]] = WeakKeyDictionary()
_retries = RetryBudget()
#: An organization that waits less for the first word than this says nothing of the model to the others.
FAIR_SILENCE_S = 10.0
#: After so many failed calls a request is given up.
FAILURES_MAX = 3


async def complete(course: Course) -> Completion:
    """Answers the course's request. It belongs into a task of its own: no client ends a paid call.

    Raises:
        BudgetExceeded: the first call's worst case does not fit under a cap.
        NoProviderAvailable: no model of the tiers that may be asked has answered.
        BadRequest: a provider says that the request is wrong.
        AnswerBroken: the model broke off in the middle of a streamed answer.
        BudgetUnavailable: the ledger is away.
    """
    _retries.earn()
    try:
        remembered = await cache.find(course)
        completion = await (_anew(course) if remembered is None else _again(course, remembered))
    except Exception as error:
        await decisions.record_refusal(course, error)
        raise
    _retries.give_back(course.retries)
    await decisions.record(completion)
    return completion


async def _again(course: Course, remembered: Remembered) -> Completion:
    await charging.note_balance(course)
    return Completion(course, remembered.answer, "cache", saved_eur=remembered.cost_eur)


async def _anew(course: Course) -> Completion:
    try:
        answer, route = await _route(course)
    except BaseException:
        await cache.give_up(course)
        raise
    await cache.remember(course, answer, route)
    return Completion(course, answer, route)


async def _route(course: Course) -> tuple[Answer, Route]:
    needs_large = policy.first_tier(course.policy, course.request) == "large"
    if needs_large and not await _is_small_only(course):
        return await _ask_large(course), "large"
    try:
        small = await _ask(course, "small")
    except NoProviderAvailable:
        if not policy.may_escalate(course.request) or await _stays_small(course):
            raise
        return await _ask_large(course), "large"
    if needs_large:
        return small, "degraded"
    if not policy.may_escalate(course.request) or policy.is_accepted(small.confidence, course.threshold):
        return small, "small"
    course.reject_answer()
    if await _stays_small(course):
        return small, "degraded"
    try:
        return await _ask_large(course), "large"
    except AnswerBroken:
        raise
    except GatewayError:
        # Not affordable, or not to be had: the small answer is there, and paid.
        return small, "degraded"


async def _stays_small(course: Course) -> bool:
    """Whether the large model is not asked although the small one's answer is not enough."""
    return demotion.is_demoted(course) or await _is_small_only(course)


async def _is_small_only(course: Course) -> bool:
    """Whether the month is so far spent that requests which leave the choice to us ask the small model only.

    Costs nothing where the settings do not want it, or a hold has said how the month stands.
    """
    if course.policy.degraded_from is None or not policy.may_escalate(course.request):
        return False
    return policy.is_small_only(course.policy, course.balance or await charging.note_balance(course))


async def _ask_large(course: Course) -> Answer:
    try:
        answer = await _ask(course, "large")
    except GatewayError as error:
        await demotion.note_refusal(course, error)
        raise
    await demotion.note_large_answer()
    return answer


async def _ask(course: Course, tier: Tier) -> Answer:
    candidates = deque(candidates_of(course, tier))
    while candidates and _may_try(course):
        candidate = candidates.popleft()
        if not await breaker().admits(candidate.provider, candidate.model):
            course.attempts.append(Attempt(candidate, "skipped_circuit_open"))
            continue
        give_up_at = course.deadline_of_attempt(candidates_left=len(candidates))
        try:
            return await _hedged_attempt(course, candidate, candidates, give_up_at)
        except Deserted as error:
            raise AnswerBroken("The client has gone.", code="client_gone") from error
        except ProviderError as error:
            if course.has_begun:
                raise AnswerBroken(error.message) from error
            if not error.failover:
                raise BadRequest(error.message, param=error.param, code="provider_refused") from error
    raise _no_provider(course, tier)


def _no_provider(course: Course, tier: Tier) -> NoProviderAvailable:
    """Says when the first of the tier's models may be asked again."""
    waits = [
        breaker().wait_s(candidate.provider, candidate.model) for candidate in candidates_of(course, tier)
    ]
    message = f"No provider can answer with a {tier} model now."
    return NoProviderAvailable(message, retry_after_s=max(math.ceil(min(waits, default=0)), 1))


def _may_try(course: Course) -> bool:
    """Whether there is time and reason for another call; after a failure it has to be earned."""
    if course.remaining_s <= 0 or course.is_deserted:
        return False
    if course.failures == 0:
        return True
    if course.failures >= FAILURES_MAX or not _retries.spend():
        return False
    course.retries += 1
    return True


async def _hedged_attempt(
    course: Course, candidate: Candidate, others: deque[Candidate], give_up_at: float
) -> Answer:
    """An attempt; where the settings want it and it takes long, the next model is asked beside it."""
    after_s = course.policy.hedge_after_s
    attempt = _watched_attempt(course, candidate, give_up_at)
    is_probe = not breaker().is_closed(candidate.provider, candidate.model)
    if after_s is None or course.listener is not None or is_probe:
        return await attempt

    def other() -> Coroutine[Any, Any, Answer] | None:
        # Only where its circuit is closed: a probe is not for a request that has an answer under way.
        if not others or not breaker().is_closed(others[0].provider, others[0].model):
            return None
        return _watched_attempt(course, others.popleft(), course.deadline)

    return await hedged(attempt, after_s=after_s, other=other)


async def _watched_attempt(course: Course, candidate: Candidate, give_up_at: float) -> Answer:
    async with breaker().watched(candidate.provider, candidate.model):
        return await _attempt(course, candidate, give_up_at)


async def _attempt(course: Course, candidate: Candidate, give_up_at: float) -> Answer:
    request = provider_request(course, candidate)
    attempt = course.begin_attempt(candidate)
    hold = await charging.take_hold(course, attempt, request)
    sent = time.monotonic()
    try:
        reply = await _call(course, candidate, request, give_up_at)
    except ProviderError as error:
        attempt.latency_ms = _ms_since(sent)
        await charging.charge_failure(course, attempt, hold, error)
        raise
    except BaseException:
        # A defect of ours, or a hedge that lost: the call may have been billed all the same.
        attempt.latency_ms = _ms_since(sent)
        await charging.charge_unknown(course, attempt, hold)
        raise
    attempt.latency_ms = _ms_since(sent)
    try:
        await charging.charge_answer(course, attempt, hold, reply)
    except Exception:
        await charging.charge_unknown(course, attempt, hold)
        raise
    return judge(course, attempt, reply)


async def _call(
    course: Course, candidate: Candidate, request: ProviderRequest, give_up_at: float
) -> ProviderReply:
    adapter = _adapter(candidate.provider)
    if course.listener is None or not course.is_live(candidate.tier):
        return await adapter.complete(request, deadline=give_up_at)
    silent_until = asyncio.get_running_loop().time() + course.policy.first_content_timeout_s
    stream = adapter.stream(request, deadline=course.deadline, first_content_by=min(silent_until, give_up_at))
    try:
        return await _listened(course, course.listener, stream)
    except TimedOut as error:
        if error.kind == "no_first_content" and course.policy.first_content_timeout_s < FAIR_SILENCE_S:
            error.blames_model = False
        raise


async def _listened(
    course: Course, listener: Listener, stream: AsyncGenerator[StreamItem, None]
) -> ProviderReply:
    """The whole of what `stream` gives, each piece of which is sent on at once."""
    try:
        async with listener.patience(), aclosing(stream):
            async for item in stream:
                if isinstance(item, ProviderReply):
                    return item
                if isinstance(item, StreamStart):
                    course.stream_start = item
                else:
                    # In time to drain it before the deadline, which would blame the model for a slow client.
                    await listener.send(item, until=course.deadline - 2 * DRAIN_S)
    except TimeoutError as error:
        raise Deserted("nobody listens to the answer any more") from error
    raise Malformed("the stream has ended without an answer")


def _ms_since(moment: float) -> int:
    return int((time.monotonic() - moment) * 1000)


def _adapter(provider: str) -> Adapter:
    return _adapters[asyncio.get_running_loop()][provider]


@asynccontextmanager
async def adapters_opened() -> AsyncIterator[None]:
    """Opens the running loop's connections to the providers for the time of the block."""
    loop = asyncio.get_running_loop()
    _adapters[loop] = open_adapters(settings.PROVIDERS)
    try:
        yield
    finally:
        for adapter in _adapters.pop(loop).values():
            await adapter.aclose()
