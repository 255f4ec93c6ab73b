"""Whether a file is FOCUS 1.2, by the rules of its specification that a file alone can be judged by."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal

MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost"),
    *("PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
    # of later versions, as our conventions have them
    *("HostProviderName", "ServiceProviderName"),
}
NULLABLE = {
    *("BillingAccountName", "ChargeClass", "ChargeDescription", "ConsumedQuantity", "ConsumedUnit"),
    *(
        "ContractedUnitPrice",
        "InvoiceId",
        "ListUnitPrice",
        "PricingCategory",
        "PricingQuantity",
        "PricingUnit",
    ),
    *("PricingCurrencyContractedUnitPrice", "PricingCurrencyListUnitPrice", "SkuId", "SkuMeter"),
    *("SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags"),
}
DECIMALS = {
    *("BilledCost", "ConsumedQuantity", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "ListCost"),
    *("ListUnitPrice", "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost"),
    *("PricingCurrencyListUnitPrice", "PricingQuantity"),
}
INSTANTS = {"BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"}
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},
    "BillingCurrency": {"EUR"},
    "PricingCurrency": {"USD", "EUR"},
}
#: What usage must have unless it is a correction.
OF_USAGE = {
    *("ConsumedQuantity", "ContractedUnitPrice", "ListUnitPrice", "PricingCategory", "PricingQuantity"),
    *("SkuId", "SkuPriceId", "PricingCurrencyContractedUnitPrice", "PricingCurrencyListUnitPrice"),
}
#: Both are null, or neither.
PAIRS = (
    *(("ConsumedQuantity", "ConsumedUnit"), ("PricingQuantity", "PricingUnit"), ("SkuId", "SkuMeter")),
    *(("SubAccountId", "SubAccountName"), ("SkuPriceId", "SkuPriceDetails")),
)
_DECIMAL = re.compile(r"-?\d+(\.\d+)?(E-?\d+)?")

Row = Mapping[str, str]


def faults_of_columns(columns: list[str]) -> Iterator[str]:
    yield from (f"{name} is missing" for name in sorted(MANDATORY - set(columns)))
    own = [name for name in columns if name.startswith("x_")]
    if columns[-len(own) :] != own:
        yield "own columns stand among those of FOCUS"
    for name in columns:
        if not re.fullmatch(r"(x_)?[A-Z][A-Za-z0-9]{1,48}", name):
            yield f"{name} is no name of a column"


def faults(row: Row) -> Iterator[str]:
    """What is wrong with a row; nothing, as it should be."""
    columns = [name for name in row if not name.startswith("x_")]
    yield from (f"{name} is null" for name in columns if not row[name] and name not in NULLABLE)
    yield from (f"{name}: {row[name]}" for name, values in ALLOWED.items() if row[name] not in values)
    yield from (
        f"{name}: {row[name]}" for name in DECIMALS if row[name] and not _DECIMAL.fullmatch(row[name])
    )
    yield from (f"{one} without {other}" for one, other in PAIRS if bool(row[one]) != bool(row[other]))
    yield from _faults_of_periods(row)
    yield from _faults_of_usage(row)
    yield from _faults_of_key_values(row)


def _faults_of_periods(row: Row) -> Iterator[str]:
    try:
        at = {
            name: datetime.strptime(row[name], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for name in INSTANTS
        }
    except ValueError as error:
        yield str(error)
        return
    if (
        not at["BillingPeriodStart"]
        <= at["ChargePeriodStart"]
        < at["ChargePeriodEnd"]
        <= at["BillingPeriodEnd"]
    ):
        yield "the charge period is not in the billing period"


def _faults_of_usage(row: Row) -> Iterator[str]:
    if row["ChargeCategory"] != "Usage":
        if row["ConsumedQuantity"]:
            yield "a consumed quantity without usage"
        return
    if row["ChargeClass"] != "Correction":
        yield from (f"usage without {name}" for name in OF_USAGE if not row[name])
    for kind in ("List", "Contracted"):
        product = Decimal(row[f"{kind}UnitPrice"]) * Decimal(row["PricingQuantity"])
        if product != Decimal(row[f"{kind}Cost"]):
            yield f"{kind}UnitPrice × PricingQuantity is not {kind}Cost"
    if Decimal(row["PricingQuantity"]) * 1_000_000 != Decimal(row["ConsumedQuantity"]):
        yield "the quantities differ"


def _faults_of_key_values(row: Row) -> Iterator[str]:
    for name in ("Tags", "SkuPriceDetails"):
        values = json.loads(row[name]) if row[name] else {}
        if any(isinstance(value, dict | list) for value in values.values()):
            yield f"{name} has a nested value"
