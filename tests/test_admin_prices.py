"""Prices and exchange rates in the admin: appended to, and never changed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction

from budgets.models import FxRate
from providers.admin import EMPTY_BAND
from providers.models import Price
from tests.admin_world import (
    add_page,
    as_role,
    change_page,
    errors_of,
    last_audit_entry,
    list_page,
    text_of,
)
from tests.test_budgets_ecb import HISTORY

IMPORT = "/admin/budgets/fxrate/import-ecb/"


@pytest.fixture(autouse=True)
def rolled_back() -> Iterator[None]:
    """Prices and rates are never deleted; so that other tests find the ones they know, these are not kept."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def price_form(**more: Any) -> dict[str, Any]:
    bands = [
        {**EMPTY_BAND, "input": "1.25", "output": "10"},
        {**EMPTY_BAND, "input": "2.5", "output": "15", "from_tokens": 200_000},
    ]
    return {
        "provider": "openai",
        "model": "gpt-test",
        "service_tier": "standard",
        "valid_from_0": "2026-11-01",
        "valid_from_1": "00:00:00",
        "bands": json.dumps(bands),
        "source": "contract",
        "source_version": "",
        "reason": "the new contract",
        **more,
    }


def test_an_operator_appends_a_price() -> None:
    client = as_role("operator")
    client.post(add_page(Price), price_form())
    price = Price.objects.get(model="gpt-test")
    assert price.bands[0]["input"] == "1.25"
    entry = last_audit_entry(None, "price.append")
    assert entry.reason == "the new contract"
    assert entry.after is not None and entry.after["source"] == "contract"
    page = text_of(client.get(change_page(price)))
    assert "<td>200000</td>" in page
    assert "1.25 …" in text_of(client.get(f"{list_page(Price)}?q=gpt-test"))


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"bands": "[]"}, "bands", "required"),
        ({"bands": '[{"from_tokens": 0}]'}, "bands", "[0] needs exactly these"),
        ({"bands": json.dumps([{**EMPTY_BAND, "input": "1", "output": 3}])}, "bands", "[0].output"),
        ({"bands": json.dumps([{**EMPTY_BAND, "input": "1"}])}, "bands", "[0].output"),
        ({"provider": "acme"}, "provider", "valid choice"),
        ({"model": ""}, "model", "required"),
        ({"valid_from_0": ""}, "valid_from", "required"),
        ({"reason": ""}, "reason", "Please give a reason"),
    ],
)
def test_a_bad_price_is_refused_at_its_field(wrong: dict[str, str], field: str, words: str) -> None:
    errors = errors_of(as_role("operator").post(add_page(Price), price_form(**wrong)))
    assert list(errors) == [field]
    assert words in errors[field][0]


def test_the_form_shows_how_rates_are_written() -> None:
    assert "cache_write_5m" in text_of(as_role("operator").get(add_page(Price)))


def test_an_operator_appends_a_rate() -> None:
    client = as_role("operator")
    form = {"valid_from": "1999-02-03", "eur_per_unit": "0.8123", "reason": "by agreement"}
    client.post(add_page(FxRate), form)
    rate = FxRate.objects.get(valid_from="1999-02-03")
    assert (f"{rate.eur_per_unit:f}", rate.source) == ("0.8123000000", "by hand")
    assert last_audit_entry(None, "fx_rate.append").reason == "by agreement"
    errors = errors_of(client.post(add_page(FxRate), form))
    assert errors == {"eur_per_unit": ["This rate is in force for that day already."]}
    assert list(errors_of(client.post(add_page(FxRate), {**form, "eur_per_unit": "0"}))) == ["eur_per_unit"]


def test_an_operator_imports_the_ecbs_file() -> None:
    client = as_role("operator")
    assert "Import" in text_of(client.get(list_page(FxRate)))
    page = client.post(IMPORT, {"file": SimpleUploadedFile("eurofxref-hist.csv", HISTORY)}, follow=True)
    assert "2 of 2 exchange rates appended." in text_of(page)
    assert FxRate.objects.filter(source="European Central Bank", valid_from="1999-02-05").exists()


def test_another_file_is_refused_at_its_field() -> None:
    client = as_role("operator")
    other = client.post(IMPORT, {"file": SimpleUploadedFile("x.csv", b"hello")})
    assert "no file of the European Central Bank" in errors_of(other)["file"][0]
    assert errors_of(client.post(IMPORT, {})) == {"file": ["This field is required."]}


@pytest.mark.parametrize("role", ["admin", "finance"])
def test_only_operators_import_and_append(role: str, organization: Any) -> None:
    client = as_role(role, organization)
    assert client.get(IMPORT).status_code == 403
    assert client.get(add_page(FxRate)).status_code == 403
    assert client.get(add_page(Price)).status_code == 403
    assert "import-ecb" not in text_of(client.get(list_page(FxRate)))
