"""The price book in the database: complete, never changed, and brought up to date by adding to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

import providers
from aigov import database
from providers.models import Price, PriceSource, validate_bands
from providers.price_book import ListedRow, load_price_book, new_rows
from providers.price_source import bands_json, source_rows, source_version
from providers.pricing import Band, PriceBook, PriceRow

NAMES = count(1)
NOW = datetime(2026, 11, 22, tzinfo=UTC)
BANDS = [
    {
        "from_tokens": 0,
        "input": "0.15",
        "cache_read": "0.075",
        "cache_write_5m": "0.15",
        "cache_write_1h": "0.15",
        "output": "0.6",
    }
]


def price(**fields: Any) -> Price:
    """A price of a model of its own, since prices stay."""
    values = {
        "provider": "openai",
        "model": f"test-{next(NAMES)}",
        "valid_from": NOW,
        "bands": BANDS,
        **fields,
    }
    return Price.objects.create(**values)


@contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_the_seed_is_what_the_installed_list_says() -> None:
    seed = json.loads((Path(providers.__file__).parent / "data" / "prices.json").read_text(encoding="utf-8"))
    listed = [
        {
            "provider": row.provider,
            "model": row.model,
            "service_tier": row.service_tier,
            "valid_from": row.valid_from.isoformat(),
            "bands": bands_json(row.bands),
        }
        for row in source_rows()
    ]
    assert (seed["rows"], seed["source_version"]) == (listed, source_version()), (
        "run `python -m providers.price_source > providers/data/prices.json`"
    )


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-mini-2024-07-18"),
        ("anthropic", "claude-haiku-4-5"),
        ("anthropic", "claude-haiku-4-5-20251001"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
    ],
)
async def test_a_process_reads_the_whole_seeded_book(provider: str, model: str) -> None:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
        book = await load_price_book(conn)
    listed = [row for row in source_rows() if (row.provider, row.model) == (provider, model)]
    assert listed
    for row in listed:
        loaded = book.at(provider, model, row.service_tier, row.valid_from)
        assert (loaded.bands, loaded.valid_from) == (row.bands, row.valid_from)
        assert loaded.id > 0


def test_a_price_is_never_changed_or_deleted() -> None:
    row = price()
    for statement in (
        "UPDATE providers_price SET bands = bands WHERE id = %s",
        "DELETE FROM providers_price WHERE id = %s",
    ):
        with (
            pytest.raises(IntegrityError, match="never changed or deleted"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, [row.pk])
    assert Price.objects.filter(pk=row.pk).exists()


def band(**fields: Any) -> dict[str, Any]:
    return {**BANDS[0], **fields}


BAD_BANDS: list[Any] = [
    [],
    {},
    None,
    ["0.15"],
    [band(input="-0.15")],
    [band(output=0.6)],
    [band(output="NaN")],
    [band(output="1e3")],
    [band(output=" 1")],
    [band(output="1\n")],
    [band(cache_read=None)],
    [band(from_tokens=1)],
    [band(from_tokens="0")],
    [band(from_tokens=True)],
    [band(), band(from_tokens=0)],
    [band(), band(from_tokens=200), band(from_tokens=100)],
    [band()] + [band(from_tokens=start) for start in range(1, 21)],
    [{name: rate for name, rate in BANDS[0].items() if name != "output"}],
]


@pytest.mark.parametrize("bands", BAD_BANDS)
def test_rates_that_make_no_sense_are_refused_by_the_form_and_by_the_database(bands: Any) -> None:
    with pytest.raises(ValidationError):
        validate_bands(bands)
    with pytest.raises(IntegrityError), transaction.atomic():
        price(bands=bands)


def test_rates_in_several_bands_are_taken() -> None:
    bands = [band(), band(from_tokens=200_000, input="6", output="22.50")]
    validate_bands(bands)
    with undone():
        assert price(bands=bands).bands == bands


@pytest.mark.parametrize(
    "fields", [{"provider": "elsewhere"}, {"currency": "EUR"}, {"source": "hearsay"}, {"model": ""}]
)
def test_a_price_names_a_known_provider_source_and_currency(fields: dict[str, str]) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        price(**fields)


async def test_every_process_is_told_of_a_new_price() -> None:
    async with await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True) as conn:
        await conn.execute("LISTEN aigov_changed")
        await conn.execute(
            "INSERT INTO providers_price (provider, model, service_tier, valid_from, currency, bands, source,"
            " source_version, created_at)"
            " VALUES ('openai', %s, 'standard', now(), 'USD', %s, 'by hand', '', now())",
            [f"test-{next(NAMES)}", json.dumps(BANDS)],
        )
        heard = [notice.payload async for notice in conn.notifies(timeout=10, stop_after=1)]
    assert heard == ["prices"]


def run_import(**options: bool) -> str:
    out = StringIO()
    call_command("import_prices", stdout=out, **options)
    return out.getvalue()


def test_an_import_adds_only_what_is_new_and_twice_is_once() -> None:
    with undone():
        price(model="gpt-4o", source=PriceSource.LIST, bands=[band(input="99")])
        before = Price.objects.count()
        told = run_import(dry_run=True)
        assert told.splitlines() == [
            "openai gpt-4o (standard) from 2026-11-22",
            f"1 prices would be appended (genai-prices {source_version()}).",
        ]
        assert Price.objects.count() == before
        run_import()
        assert Price.objects.count() == before + 1
        assert run_import().startswith("0 prices appended")


@pytest.mark.parametrize("source", [PriceSource.CONTRACT, PriceSource.BY_HAND])
def test_an_import_leaves_a_contracts_price_in_force(source: str) -> None:
    with undone():
        price(model="gpt-4o", source=source, bands=[band(input="1.99")])
        assert run_import().startswith("0 prices appended")


JUNE, JULY, AUGUST = (datetime(2026, month, 1, tzinfo=UTC) for month in (6, 7, 8))


def at_rate(rate: int) -> tuple[Band, ...]:
    price = Decimal(rate)
    return (Band(0, price, price, price, price, price),)


def listed(*rows: tuple[datetime, int]) -> list[ListedRow]:
    return [ListedRow("openai", "m", "standard", valid_from, at_rate(rate)) for valid_from, rate in rows]


def booked(*rows: tuple[datetime, int]) -> PriceBook:
    numbered = enumerate(rows, start=1)
    return PriceBook(
        PriceRow(number, "openai", "m", "standard", start, at_rate(rate))
        for number, (start, rate) in numbered
    )


@pytest.mark.parametrize(
    ("list_says", "book_says", "added"),
    [
        ([(JUNE, 1)], [], [(JUNE, 1)]),
        ([(JUNE, 1)], [(JUNE, 1)], []),
        ([(JUNE, 1), (JULY, 2)], [(JUNE, 1)], [(JULY, 2)]),
        # A corrected rate is a further row of the same date.
        ([(JUNE, 2)], [(JUNE, 1)], [(JUNE, 2)]),
        # A date that the list has given up goes on at the rate before.
        ([(JUNE, 1)], [(JUNE, 1), (JULY, 2)], [(JULY, 1)]),
        ([(JUNE, 1), (AUGUST, 2)], [(JUNE, 1), (JULY, 2)], [(JULY, 1), (AUGUST, 2)]),
        # The row that was right for July stops being so once June is corrected under it.
        ([(JUNE, 2), (JULY, 1)], [(JUNE, 1)], [(JUNE, 2), (JULY, 1)]),
        # What the book knew before the list begins stays.
        ([(JULY, 1)], [(JUNE, 5)], [(JULY, 1)]),
        ([(JULY, 5)], [(JUNE, 5)], []),
    ],
)
def test_what_is_added_makes_the_book_say_what_the_list_says_at_every_instant(
    list_says: list[tuple[datetime, int]],
    book_says: list[tuple[datetime, int]],
    added: list[tuple[datetime, int]],
) -> None:
    rows = new_rows(listed=listed(*list_says), book=booked(*book_says), kept=frozenset())
    assert rows == listed(*added)
    after = booked(*book_says, *added)
    for instant in (JUNE, JULY, AUGUST, NOW):
        wanted = [row for row in listed(*list_says) if row.valid_from <= instant]
        if wanted:
            assert after.at("openai", "m", "standard", instant).bands == wanted[-1].bands


def test_a_kept_price_and_another_tier_are_apart() -> None:
    standard, batch = listed((JUNE, 1))[0], replace(listed((JUNE, 1))[0], service_tier="batch")
    kept = frozenset({("openai", "m", "standard")})
    assert new_rows(listed=[standard, batch], book=booked(), kept=kept) == [batch]
