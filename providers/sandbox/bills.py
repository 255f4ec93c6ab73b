"""The bills and usage reports as the providers' admin endpoints give them, in buckets of time, page by page.

OpenAI: `GET /v1/organization/costs` and `/v1/organization/usage/completions`. Anthropic:
`GET /v1/organizations/cost_report` and `/v1/organizations/usage_report/messages`. Buckets lie in UTC. All of
them want an admin key: one with “admin” in it, as the providers' own have.
"""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from providers.sandbox.metering import KINDS, BilledLine, Meter, Metering
from providers.sandbox.server import Request
from providers.sandbox.switches import Switches
from providers.sandbox.wire import Refused

WIDTHS_S = {"1d": 86_400, "1h": 3_600, "1m": 60}
#: How many buckets a page has unless told otherwise, and at most.
USAGE_PAGE = {"1d": (7, 31), "1h": (24, 168), "1m": (60, 1440)}
PROJECT, WORKSPACE = "proj_sandbox", None
CENT = Decimal(100)
#: Kind of tokens → what OpenAI's line items call it, what Anthropic's descriptions do, and its token type.
OPENAI_KINDS = dict(
    zip(KINDS, ("input", "cached input", "cache write", "cache write", "output"), strict=True)
)
ANTHROPIC_KINDS = dict(
    zip(
        KINDS,
        (
            ("Input Tokens", "uncached_input_tokens"),
            ("Input Tokens, Cache Read", "cache_read_input_tokens"),
            ("Input Tokens, Cache Write", "cache_creation.ephemeral_5m_input_tokens"),
            ("Input Tokens, Cache Write 1h", "cache_creation.ephemeral_1h_input_tokens"),
            ("Output Tokens", "output_tokens"),
        ),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class Page:
    """Which buckets are asked for, by their beginnings and width in Unix seconds; and the next page."""

    starts_s: range
    width_s: int
    next_page: str | None


Row = dict[str, Any]


def openai_costs(request: Request, metering: Metering, switches: Switches) -> Mapping[str, Any]:
    page = _openai_page(request, {"1d": (7, 180)})
    groups = _groups(request, ("line_item", "project_id", "api_key_id", "user_id", "api_source"))

    def result(line: BilledLine) -> tuple[Row, Decimal]:
        every = {"line_item": _line_item(line), "project_id": PROJECT}
        return {name: every.get(name) if name in groups else None for name in every}, line.amount_usd

    def bucket(start_s: int, end_s: int) -> list[Row]:
        lines = metering.lines("openai", start_s, end_s, switches)
        return [
            {
                "object": "organization.costs.result",
                "amount": {"value": float(_rounded(amount, switches)), "currency": "usd"},
                **row,
                "api_key_id": None,
            }
            for row, amount in _summed(map(result, lines))
        ]

    return _openai_body(page, bucket)


def openai_usage(request: Request, metering: Metering, switches: Switches) -> Mapping[str, Any]:
    page = _openai_page(request, USAGE_PAGE)
    groups = _groups(
        request, ("project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source")
    )

    def bucket(start_s: int, end_s: int) -> list[Row]:
        rows = []
        for row, sums in _counted(metering, "openai", start_s, end_s, groups):
            fresh, read, written, _, output, calls = sums
            rows.append(
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": fresh + read + written,
                    "output_tokens": output,
                    "input_cached_tokens": read,
                    "input_cache_write_tokens": written,
                    "input_audio_tokens": 0,
                    "output_audio_tokens": 0,
                    "num_model_requests": calls,
                    **dict.fromkeys(("project_id", "user_id", "api_key_id", "batch")),
                    **row,
                }
            )
        return rows

    return _openai_body(page, bucket)


def anthropic_costs(request: Request, metering: Metering, switches: Switches) -> Mapping[str, Any]:
    """Amounts are cents, as decimal strings. As with Anthropic, Priority Tier is not among them."""
    page = _anthropic_page(request, {"1d": (7, 31)})
    groups = _groups(request, ("description", "workspace_id"))

    def result(line: BilledLine) -> tuple[Row, Decimal]:
        row = _description(line) if "description" in groups else dict.fromkeys(_description(line))
        return row, line.amount_usd * CENT

    def bucket(start_s: int, end_s: int) -> list[Row]:
        lines = metering.lines("anthropic", start_s, end_s, switches)
        billed = (result(line) for line in lines if line.meter.service_tier != "priority")
        return [
            {"currency": "USD", "amount": f"{_cents(amount, switches):f}", "workspace_id": WORKSPACE, **row}
            for row, amount in _summed(billed)
        ]

    return _anthropic_body(page, bucket)


def anthropic_usage(request: Request, metering: Metering, switches: Switches) -> Mapping[str, Any]:
    page = _anthropic_page(request, USAGE_PAGE)
    groups = _groups(
        request,
        (
            *("api_key_id", "workspace_id", "model", "service_tier", "context_window", "inference_geo"),
            *("speed", "account_id", "service_account_id"),
        ),
    )

    def bucket(start_s: int, end_s: int) -> list[Row]:
        rows = []
        for row, sums in _counted(metering, "anthropic", start_s, end_s, groups):
            fresh, read, written_5m, written_1h, output, _ = sums
            rows.append(
                {
                    "uncached_input_tokens": fresh,
                    "cache_read_input_tokens": read,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": written_5m,
                        "ephemeral_1h_input_tokens": written_1h,
                    },
                    "output_tokens": output,
                    "server_tool_use": {"web_search_requests": 0},
                    **dict.fromkeys(("api_key_id", "workspace_id", "context_window", "inference_geo")),
                    **row,
                }
            )
        return rows

    return _anthropic_body(page, bucket)


# --- Lines


def _line_item(line: BilledLine) -> str:
    """Such as `gpt-4o-2024-08-06, cached input` and `priority | gpt-5.4, output, long context`."""
    tier = "" if line.meter.service_tier == "standard" else f"{line.meter.service_tier} | "
    length = ", long context" if line.meter.from_tokens else ""
    return f"{tier}{line.meter.model}, {OPENAI_KINDS[line.kind]}{length}"


def _description(line: BilledLine) -> Row:
    said, token_type = ANTHROPIC_KINDS[line.kind]
    _claude, family, *version = line.meter.model.split("-")
    numbers = ".".join(number for number in version if len(number) < 3)
    batch = " (Batch API)" if line.meter.service_tier == "batch" else ""
    window = _context_window(line.meter)
    long = ", Long Context" if line.meter.from_tokens else ""
    return {
        "description": f"Claude {family.title()} {numbers} Usage{batch} - {said}{long}",
        "cost_type": "tokens",
        "context_window": window,
        "model": line.meter.model,
        "service_tier": line.meter.service_tier,
        "token_type": token_type,
    }


def _context_window(meter: Meter) -> str:
    return "200k-1M" if meter.from_tokens >= 200_000 else "0-200k"


def _summed(lines: Iterator[tuple[Row, Decimal]]) -> Iterator[tuple[Row, Decimal]]:
    """The lines of the same kind together, in a fixed order."""
    sums: dict[tuple[tuple[str, Any], ...], Decimal] = {}
    for row, amount in lines:
        key = tuple(row.items())
        sums[key] = sums.get(key, Decimal(0)) + amount
    for key in sorted(sums, key=str):
        yield dict(key), sums[key]


def _counted(
    metering: Metering, provider: str, start_s: int, end_s: int, groups: set[str]
) -> Iterator[tuple[Row, list[int]]]:
    counts: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    for meter, sums in metering.within(provider, start_s, end_s):
        every = {
            "model": meter.model,
            "service_tier": meter.service_tier,
            "context_window": _context_window(meter),
        }
        offered = every if provider == "anthropic" else {name: every[name] for name in list(every)[:2]}
        key = tuple((name, value if name in groups else None) for name, value in offered.items())
        found = counts.setdefault(key, [0] * len(sums))
        for index, count in enumerate(sums):
            found[index] += count
    for key in sorted(counts, key=str):
        yield dict(key), counts[key]


def _rounded(amount: Decimal, switches: Switches) -> Decimal:
    places = switches.bill_places
    return amount if places is None else amount.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def _cents(cents: Decimal, switches: Switches) -> Decimal:
    return _rounded(cents / CENT, switches) * CENT


# --- Buckets and pages


def _openai_page(request: Request, pages: Mapping[str, tuple[int, int]]) -> Page:
    start = request.query.get("start_time", "")
    if not start.isdecimal():
        raise Refused(400, "Missing required parameter: 'start_time'.", param="start_time")
    end = request.query.get("end_time")
    if end is not None and not end.isdecimal():
        raise Refused(400, "Invalid 'end_time': an integer is needed.", param="end_time")
    return _page(request, pages, int(start), None if end is None else int(end))


def _anthropic_page(request: Request, pages: Mapping[str, tuple[int, int]]) -> Page:
    start = _instant(request, "starting_at")
    if start is None:
        raise Refused(400, "starting_at: Field required")
    return _page(request, pages, start, _instant(request, "ending_at"))


def _instant(request: Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, f"{name}: Input should be a valid datetime") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _page(request: Request, pages: Mapping[str, tuple[int, int]], start_s: int, until_s: int | None) -> Page:
    width = request.query.get("bucket_width", "1d")
    if width not in pages:
        raise Refused(400, f"bucket_width: one of {', '.join(pages)} is needed", param="bucket_width")
    usual, most = pages[width]
    limit = request.query.get("limit", str(usual))
    if not limit.isdecimal() or not 1 <= int(limit) <= most:
        raise Refused(400, f"limit: from 1 to {most}", param="limit")
    width_s = WIDTHS_S[width]
    until_s = int(time.time()) + width_s if until_s is None else until_s
    every = range(start_s - start_s % width_s, until_s - width_s + 1, width_s)
    if cursor := request.query.get("page"):
        every = range(_read_cursor(cursor), every.stop, width_s)
    rest = every[int(limit) :]
    return Page(every[: int(limit)], width_s, _cursor(rest[0]) if rest else None)


def _cursor(start_s: int) -> str:
    return "page_" + base64.urlsafe_b64encode(str(start_s).encode()).decode()


def _read_cursor(text: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(text.removeprefix("page_")))
    except ValueError:
        raise Refused(400, "page: this is no page of ours", param="page") from None


def _groups(request: Request, known: tuple[str, ...]) -> set[str]:
    groups = set(request.values("group_by"))
    if unknown := groups.difference(known):
        raise Refused(
            400, f"group_by: {sorted(unknown)[0]!r} is none of {', '.join(known)}", param="group_by"
        )
    return groups


def _openai_body(page: Page, bucket: Callable[[int, int], list[Row]]) -> Mapping[str, Any]:
    data = [
        {
            "object": "bucket",
            "start_time": start_s,
            "end_time": start_s + page.width_s,
            "results": bucket(start_s, start_s + page.width_s),
        }
        for start_s in page.starts_s
    ]
    return {
        "object": "page",
        "data": data,
        "has_more": page.next_page is not None,
        "next_page": page.next_page,
    }


def _anthropic_body(page: Page, bucket: Callable[[int, int], list[Row]]) -> Mapping[str, Any]:
    data = [
        {
            "starting_at": _said(start_s),
            "ending_at": _said(start_s + page.width_s),
            "results": bucket(start_s, start_s + page.width_s),
        }
        for start_s in page.starts_s
    ]
    return {"data": data, "has_more": page.next_page is not None, "next_page": page.next_page}


def _said(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")
