"""A completion as its callers see it: the native body, the `x-ai-*` headers, and the extras for the SDKs."""

from typing import Any

from aigov.money import euro_text
from budgets.balances import balance_as_json
from routing.course import Completion, Course, usage_as_json


def native_body(completion: Completion) -> dict[str, Any]:
    """The answer of `POST /api/v1/completions`."""
    course, answer = completion.course, completion.answer
    return {
        "id": course.id,
        "created_at": course.created_at.isoformat(timespec="seconds"),
        "content": answer.content,
        "parsed": answer.parsed,
        "route": completion.route,
        "tier": answer.tier,
        "provider": answer.provider,
        "model": answer.model,
        "confidence": answer.confidence,
        "confidence_method": answer.confidence_method,
        "threshold": course.threshold,
        "attempts": attempts_of(completion),
        "usage": usage_as_json(answer.usage),
        "cost_eur": euro_text(course.cost_eur),
        "budget": budget_of(completion),
        "cached": completion.cached,
        "finish_reason": answer.finish_reason,
        "request_id": course.request_id,
    }


def sdk_extras(completion: Completion) -> dict[str, Any]:
    """The `aigov` object in an answer for one of the SDKs."""
    body = native_body(completion)
    names = ("id", "route", "confidence", "cost_eur", "provider", "attempts", "budget")
    return {name: body[name] for name in names}


def headers_of(completion: Completion) -> dict[str, str]:
    """The `x-ai-*` headers of an answer that comes whole."""
    course, answer = completion.course, completion.answer
    budget = budget_of(completion)
    headers = {
        "x-ai-cost-eur": euro_text(course.cost_eur),
        "x-ai-budget-limit": budget["limit_eur"],
        "x-ai-budget-remaining": budget["remaining_eur"],
        "x-ai-budget-reset": budget["resets_at"],
        "x-ai-model": answer.model,
        "x-ai-provider": answer.provider,
        "x-ai-route": completion.route,
        "x-ai-cache": cache_result(completion),
        "x-ai-fallbacks": str(course.failures),
    }
    if answer.confidence is not None:
        headers["x-ai-confidence"] = f"{answer.confidence:.4f}"
    return headers


def headers_of_stream(course: Course) -> dict[str, str]:
    """The `x-ai-*` headers of a stream that has begun; its cost and confidence are known at its end alone."""
    sending = course.attempts[-1]
    return {
        "x-ai-model": sending.candidate.model,
        "x-ai-provider": sending.candidate.provider,
        "x-ai-route": sending.candidate.tier,
        "x-ai-cache": _cache_result(course),
        "x-ai-fallbacks": str(course.failures),
    }


def attempts_of(completion: Completion) -> list[dict[str, Any]]:
    return [attempt.as_json() for attempt in completion.course.attempts]


def budget_of(completion: Completion) -> dict[str, Any]:
    """The organization's figures after the last of the completion's charges."""
    course = completion.course
    assert course.balance is not None and course.resets_at is not None, (
        "an answer has had a hold, or its figures were read"
    )
    return balance_as_json(course.balance, course.resets_at)


def cache_result(completion: Completion) -> str:
    """HIT, MISS, or BYPASS where the request or the settings left the cache out."""
    if completion.cached:
        return "HIT"
    return _cache_result(completion.course)


def _cache_result(course: Course) -> str:
    return "BYPASS" if course.cache_key is None else "MISS"
