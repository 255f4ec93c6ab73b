"""Cost records as rows of FOCUS, the FinOps Foundation's format for costs. Pure.

Version 1.2 of https://focus.finops.org, with the two provider columns of 1.3. One row for each kind of token
that a charge has used, so that quantity × unit price is what it costs; what cannot be put so is one row
without quantities, of the category “Adjustment”: a charge whose usage nobody knows, and every correction.

    BilledCost      what the ledger has; the rows of a record add up to it, to the nano-euro
    ListCost        quantity × unit price, not rounded; ContractedCost likewise, for we know one price alone

The billing account is the tenant, a sub account the organization. A billing period is the organization's
accounting month, a charge period its local day, both as instants in UTC. A correction is of the class
“Correction” where it concerns an earlier month; for one of the month itself FOCUS wants none.

Every charge has rows of its own rather than sums by day: only so can they name their completion and their
tags, and be found again in the ledger one by one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_FLOOR, Decimal, localcontext
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from aigov import clock
from aigov.money import NANO_EURO, ZERO, round_up
from budgets.charge_days import charge_day
from providers.pricing import Band, PriceRow, band_for

COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost"),
    *("ContractedUnitPrice", "EffectiveCost", "HostProviderName", "InvoiceId", "InvoiceIssuerName"),
    *("ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency"),
    *("PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice"),
    *("PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
    *("ServiceProviderName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId"),
    *("SubAccountId", "SubAccountName", "Tags"),
    *("x_OrganizationId", "x_OrganizationName", "x_AccountingMonth", "x_CostRecordId", "x_CorrectsId"),
    *("x_CompletionId", "x_Attempt", "x_Purpose", "x_UseCase", "x_User", "x_Tier", "x_ServiceTier"),
    *("x_ProviderRequestId", "x_ChargedAt", "x_EuroPerUsd", "x_Estimated", "x_Late", "x_Reason"),
)
#: Each kind of token: its name in ids, and its meter's.
METERS: Mapping[str, str] = {
    "input": "Input Tokens",
    "cache_read": "Cache Read Tokens",
    "cache_write_5m": "Cache Write Tokens (5 Minutes)",
    "cache_write_1h": "Cache Write Tokens (1 Hour)",
    "output": "Output Tokens",
}
PROVIDERS: Mapping[str, str] = {"openai": "OpenAI", "anthropic": "Anthropic"}
#: Who charges what no provider is named for: we, by a correction of a whole month.
GATEWAY = "aigov"
TOKENS_A_PRICE = 1_000_000
#: More than tokens × rate × exchange rate can have: nothing is rounded on the way.
EXACT_DIGITS = 60


@dataclass(frozen=True, slots=True)
class Account:
    """Whose charges they are."""

    tenant_id: int
    tenant: str
    organization_id: int
    organization: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class Charge:
    """A cost record, by the names of its fields; the tokens are None where nobody knows them."""

    id: int
    month: date
    created_at: datetime
    user: str
    use_case: str
    completion_id: str
    attempt: int
    purpose: str
    provider: str
    model: str
    tier: str
    service_tier: str
    provider_request_id: str
    metadata: Mapping[str, Any]
    cost_eur: Decimal
    cost_usd: Decimal | None
    eur_per_usd: Decimal | None
    estimated: bool
    late: bool
    reason: str
    corrects_id: int | None
    corrects_month: date | None
    hold_id: Any
    price_id: int | None
    input_total: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    output_total: int | None


@dataclass(frozen=True, slots=True)
class Metered:
    """The tokens of one kind in a charge, at a rate in US dollars per million."""

    kind: str
    tokens: int
    usd_per_million: Decimal


def focus_rows(charge: Charge, account: Account, price: PriceRow | None) -> list[list[Any]]:
    """The rows of a charge, their cells in the order of `COLUMNS`. `price` is the row it was priced by."""
    with localcontext(prec=EXACT_DIGITS):
        metered = _metered(charge, price)
        rows = _usage_rows(charge, price, metered) if price and metered else [_adjustment(charge)]
    shared = _shared(charge, account)
    return [[cells.get(column) for column in COLUMNS] for cells in (row | shared for row in rows)]


def billed_costs(cost_eur: Decimal, exact_eur: list[Decimal]) -> list[Decimal]:
    """What each part of a charge is billed, in nano-euro.

    Each part is rounded down, and what is left of `cost_eur`, which was rounded up once for all of them, goes
    to the largest: Σ billed = cost, and no part is off by more than the number of parts in nano-euro.
    """
    billed = [part.quantize(NANO_EURO, rounding=ROUND_FLOOR) for part in exact_eur]
    largest = max(range(len(billed)), key=lambda at: billed[at])
    billed[largest] += cost_eur - sum(billed, ZERO)
    return billed


def _metered(charge: Charge, price: PriceRow | None) -> list[Metered]:
    """The tokens by kind, where they are what the charge is for; none where they do not explain its cost."""
    known = charge.input_total is not None and charge.output_total is not None
    if not known or charge.hold_id is None or charge.estimated or price is None or charge.eur_per_usd is None:
        return []
    metered = _by_kind(charge, band_for(price, charge.input_total or 0))
    exact = sum((_exact_usd(part) for part in metered), Decimal(0)) * charge.eur_per_usd
    return metered if round_up(exact) == charge.cost_eur else []


def _by_kind(charge: Charge, band: Band) -> list[Metered]:
    read, short, long = charge.cache_read or 0, charge.cache_write_5m or 0, charge.cache_write_1h or 0
    tokens = {
        "input": (charge.input_total or 0) - read - short - long,
        "cache_read": read,
        "cache_write_5m": short,
        "cache_write_1h": long,
        "output": charge.output_total or 0,
    }
    return [Metered(kind, number, getattr(band, kind)) for kind, number in tokens.items() if number]


def _exact_usd(part: Metered) -> Decimal:
    return (part.usd_per_million * part.tokens).scaleb(-6)


def _usage_rows(charge: Charge, price: PriceRow, metered: list[Metered]) -> list[dict[str, Any]]:
    assert charge.eur_per_usd is not None
    rate = charge.eur_per_usd
    exact = [_exact_usd(part) * rate for part in metered]
    name = _provider(charge)
    details = json.dumps({"x_ServiceTier": price.service_tier, "x_Model": price.model})
    return [
        {
            **_costs(billed, list_cost=part_eur, usd=_exact_usd(part)),
            "ChargeCategory": "Usage",
            "ChargeDescription": f"{name} {charge.model}: {METERS[part.kind]}",
            "ChargeFrequency": "Usage-Based",
            "ConsumedQuantity": part.tokens,
            "ConsumedUnit": "Tokens",
            "ContractedUnitPrice": part.usd_per_million * rate,
            "ListUnitPrice": part.usd_per_million * rate,
            "PricingCategory": "Standard",
            "PricingCurrency": "USD",
            "PricingCurrencyContractedUnitPrice": part.usd_per_million,
            "PricingCurrencyListUnitPrice": part.usd_per_million,
            "PricingQuantity": Decimal(part.tokens).scaleb(-6),
            "PricingUnit": f"{TOKENS_A_PRICE} Tokens",
            "SkuId": f"{charge.provider}/{charge.model}/{part.kind}",
            "SkuMeter": METERS[part.kind],
            "SkuPriceDetails": details,
            "SkuPriceId": f"{price.id}/{part.kind}/{band_for(price, charge.input_total or 0).from_tokens}",
        }
        for part, part_eur, billed in zip(metered, exact, billed_costs(charge.cost_eur, exact), strict=True)
    ]


def _adjustment(charge: Charge) -> dict[str, Any]:
    """One row without quantities."""
    usd = charge.cost_usd
    return {
        **_costs(charge.cost_eur, list_cost=charge.cost_eur, usd=charge.cost_eur if usd is None else usd),
        "ChargeCategory": "Adjustment",
        "ChargeClass": "Correction" if _is_of_earlier_month(charge) else None,
        "ChargeDescription": _why(charge),
        "ChargeFrequency": "One-Time",
        "PricingCurrency": "EUR" if usd is None else "USD",
    }


def _costs(billed: Decimal, *, list_cost: Decimal, usd: Decimal) -> dict[str, Any]:
    return {
        "BilledCost": billed,
        "EffectiveCost": billed,
        "ContractedCost": list_cost,
        "ListCost": list_cost,
        "PricingCurrencyEffectiveCost": usd,
    }


def _is_of_earlier_month(charge: Charge) -> bool:
    if charge.hold_id is not None:
        return False  # a charge of its own, be it late
    return charge.late or (charge.corrects_month is not None and charge.corrects_month < charge.month)


def _why(charge: Charge) -> str:
    what = " ".join(filter(None, (_provider(charge), charge.model)))
    because = f": {charge.reason}" if charge.reason else ""
    if charge.corrects_id is not None:
        return f"Correction of charge {charge.corrects_id}, {what}{because}"
    if charge.hold_id is None:
        return f"Correction, {what}{because}"
    return f"Estimated charge, its usage is not known: {what}{because}"


def _provider(charge: Charge) -> str:
    return PROVIDERS.get(charge.provider, charge.provider) or GATEWAY


def _shared(charge: Charge, account: Account) -> dict[str, Any]:
    """What all rows of a charge have in common."""
    name = _provider(charge)
    day = charge_day(charge.created_at, charge.month, account.time_zone)
    return {
        "BillingAccountId": str(account.tenant_id),
        "BillingAccountName": account.tenant,
        "BillingCurrency": "EUR",
        "BillingPeriodStart": _utc(charge.month, account.time_zone),
        "BillingPeriodEnd": _utc(clock.next_month(charge.month), account.time_zone),
        "ChargePeriodStart": _utc(day, account.time_zone),
        "ChargePeriodEnd": _utc(day + timedelta(days=1), account.time_zone),
        **dict.fromkeys(("HostProviderName", "InvoiceIssuerName", "ProviderName", "PublisherName"), name),
        "ServiceProviderName": name,
        "ServiceName": f"{name} API" if charge.provider else GATEWAY,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": str(account.organization_id),
        "SubAccountName": account.organization,
        "Tags": _tags(charge.metadata),
        **_own_columns(charge, account),
    }


def _own_columns(charge: Charge, account: Account) -> dict[str, Any]:
    return {
        "x_OrganizationId": str(account.organization_id),
        "x_OrganizationName": account.organization,
        "x_AccountingMonth": f"{charge.month:%Y-%m}",
        "x_CostRecordId": str(charge.id),
        "x_CorrectsId": None if charge.corrects_id is None else str(charge.corrects_id),
        "x_CompletionId": charge.completion_id or None,
        "x_Attempt": charge.attempt,
        "x_Purpose": charge.purpose,
        "x_UseCase": charge.use_case or None,
        "x_User": charge.user or None,
        "x_Tier": charge.tier or None,
        "x_ServiceTier": charge.service_tier or None,
        "x_ProviderRequestId": charge.provider_request_id or None,
        "x_ChargedAt": f"{charge.created_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "x_EuroPerUsd": charge.eur_per_usd,
        "x_Estimated": "true" if charge.estimated else "false",
        "x_Late": "true" if charge.late else "false",
        "x_Reason": charge.reason or None,
    }


def _tags(metadata: Mapping[str, Any]) -> str | None:
    """Key-value pairs as FOCUS wants them: a nested value becomes its JSON text."""
    if not metadata:
        return None
    flat = {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        for key, value in metadata.items()
    }
    return json.dumps(flat, ensure_ascii=False)


@lru_cache(maxsize=1_024)
def _utc(day: date, time_zone: str) -> str:
    """Local midnight of `day`, as FOCUS writes instants."""
    midnight = datetime.combine(day, time(), ZoneInfo(time_zone))
    return f"{midnight.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
