"""The providers' bills, read over their official SDKs with keys that can do nothing else.

OpenAI has its organization's costs, Anthropic the cost report of its Admin API; both in buckets of UTC days.
(The SDK's own `analytics.cost_report` is that of Claude Enterprise, and no bill of the API; so Anthropic's is
asked for by its path.) Amounts are read from the JSON as decimals: the SDKs would make floats of them.

Every limit is stated: days, pages and lines at a time, seconds for each answer and for all; the SDKs do not
retry, and follow no redirect, which could carry the key away. A failure is one of `providers.errors`, as with
a completion.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import anthropic
import httpx2
import openai
from django.conf import settings

from providers.adapters import faults
from providers.errors import Malformed, NotSent, ProviderError, TimedOut

DAYS_MAX = 62
PAGE_DAYS = 31
PAGES_MAX = 2 * DAYS_MAX // PAGE_DAYS + 1
LINES_MAX = 50_000
ANSWER_WAIT_S = 20.0
BILL_WAIT_S = 60.0
DESCRIPTION_CHARACTERS_MAX = 300
CENTS = 2
#: So exact are our own records; what lies beyond is of no account.
PLACES = 12
#: `priority | gpt-5.4-2026-03-05, cached input, long context`
_LINE_ITEM = re.compile(r"(?:[^|,]+\| *)?(?P<model>[\w.:/-]+)(?: \w+)?, .+", re.ASCII)

Page = tuple[list[dict[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class BilledAmount:
    """A line of a provider's bill for one UTC day.

    Args:
        model: as the bill names it; empty where the line belongs to none.
        amount_usd: negative for a credit.
    """

    provider: str
    day: date
    model: str
    description: str
    amount_usd: Decimal


def can_read(provider: str) -> bool:
    """Whether there is an admin key for the bills of `provider`."""
    return provider in settings.BILLING


def read_bill(provider: str, first: date, last: date) -> list[BilledAmount]:
    """The lines of the UTC days from `first` to `last`, both inclusive.

    Raises:
        ProviderError: the bill could not be had, or not be read.
        ValueError: too many days at once.
    """
    if not 0 <= (last - first).days < DAYS_MAX:
        raise ValueError(f"1 to {DAYS_MAX} days can be read at once")
    key, base_url = settings.BILLING[provider]
    read = {"openai": _openai_bill, "anthropic": _anthropic_bill}[provider]
    lines: list[BilledAmount] = []
    try:
        for line in read(key, base_url, first, last + timedelta(days=1)):
            lines.append(line)
            if len(lines) > LINES_MAX:
                raise Malformed(f"the bill of {provider} is longer than {LINES_MAX} lines", provider=provider)
    except (openai.OpenAIError, anthropic.AnthropicError) as error:
        raise _failure(error, provider) from error
    except (TypeError, ValueError, LookupError, AttributeError, InvalidOperation) as error:
        raise Malformed(f"the bill of {provider} cannot be read", provider=provider) from error
    return lines


def _failure(error: Exception, provider: str) -> ProviderError:
    if isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
        return NotSent(f"{provider} could not be reached", provider=provider)
    if isinstance(error, openai.APITimeoutError | anthropic.APITimeoutError):
        return TimedOut(f"{provider} did not answer in time", provider=provider)
    header = {"openai": "x-request-id", "anthropic": "request-id"}[provider]
    return faults.provider_error(error, provider=provider, request_id_header=header)


def _paged(ask: Callable[[str | None], httpx2.Response], provider: str) -> Iterator[dict[str, Any]]:
    """The buckets of all pages."""
    page, until_s = None, time.monotonic() + BILL_WAIT_S
    for _ in range(PAGES_MAX):
        answer = json.loads(ask(page).content, parse_float=Decimal, parse_int=Decimal)
        yield from answer["data"]
        page = answer.get("next_page")
        if not answer.get("has_more") or page is None:
            return
        if time.monotonic() > until_s:
            raise TimedOut(f"{provider} did not answer in time", provider=provider)
    raise Malformed(f"the bill of {provider} has more pages than it can have", provider=provider)


# --- OpenAI


def _openai_bill(key: str, base_url: str | None, first: date, end: date) -> Iterator[BilledAmount]:
    with openai.OpenAI(
        # Without a key of the other kind nothing can be spent.
        api_key="",
        admin_api_key=key,
        base_url=base_url or "https://api.openai.com/v1",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(timeout=ANSWER_WAIT_S, follow_redirects=False),
    ) as client:

        def ask(page: str | None) -> httpx2.Response:
            return client.admin.organization.usage.with_raw_response.costs(
                start_time=int(_midnight(first).timestamp()),
                end_time=int(_midnight(end).timestamp()),
                bucket_width="1d",
                group_by=["line_item"],
                limit=PAGE_DAYS,
                page=openai.omit if page is None else page,
            ).http_response

        for bucket in _paged(ask, "openai"):
            day = datetime.fromtimestamp(int(bucket["start_time"]), UTC).date()
            for result in bucket["results"]:
                amount = result["amount"]
                _check_currency(amount["currency"], "openai")
                item = result.get("line_item") or ""
                yield _line("openai", day, model_of_line_item(item), item, amount["value"])


def model_of_line_item(item: str) -> str:
    """The model in OpenAI's name of a line, such as `gpt-4o-2024-08-06, cached input`; else empty."""
    found = _LINE_ITEM.fullmatch(item)
    return found["model"] if found else ""


# --- Anthropic


def _anthropic_bill(key: str, base_url: str | None, first: date, end: date) -> Iterator[BilledAmount]:
    with anthropic.Anthropic(
        api_key=key,
        base_url=base_url or "https://api.anthropic.com",
        max_retries=0,
        http_client=anthropic.DefaultHttpxClient(timeout=ANSWER_WAIT_S, follow_redirects=False),
    ) as client:

        def ask(page: str | None) -> httpx2.Response:
            params = {
                "starting_at": _midnight(first).isoformat(),
                "ending_at": _midnight(end).isoformat(),
                "bucket_width": "1d",
                "group_by": ["description"],
                "limit": PAGE_DAYS,
                **({} if page is None else {"page": page}),
            }
            return client.get(
                "/v1/organizations/cost_report", cast_to=httpx2.Response, options={"params": params}
            )

        for bucket in _paged(ask, "anthropic"):
            day = datetime.fromisoformat(bucket["starting_at"]).astimezone(UTC).date()
            for result in bucket["results"]:
                _check_currency(result["currency"], "anthropic")
                said = result.get("description") or result.get("cost_type") or ""
                amount = Decimal(result["amount"]).scaleb(-CENTS)
                yield _line("anthropic", day, result.get("model") or "", said, amount)


def _line(provider: str, day: date, model: str, description: str, amount: Any) -> BilledAmount:
    amount_usd = Decimal(amount)
    if not amount_usd.is_finite():
        raise ValueError("an amount is no number")
    said = description[:DESCRIPTION_CHARACTERS_MAX]
    return BilledAmount(provider, day, model, said, round(amount_usd, PLACES))


def _check_currency(currency: str, provider: str) -> None:
    if currency.upper() != "USD":
        raise Malformed(f"the bill of {provider} is not in US dollars", provider=provider)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
