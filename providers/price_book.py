"""The price book, read whole for the hot path, and brought up to date from the public list."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from aigov.snapshots import Snapshot
from providers.pricing import Band, PriceBook, PriceRow

LOAD = "SELECT id, provider, model, service_tier, valid_from, bands FROM providers_price"

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class ListedRow:
    """What a public list says: a model's rates from an instant on."""

    provider: str
    model: str
    service_tier: str
    valid_from: datetime
    bands: tuple[Band, ...]


async def load_price_book(conn: psycopg.AsyncConnection[Any]) -> PriceBook:
    """The whole book, for a process's snapshot of the kind `prices`."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(LOAD)
        return PriceBook([price_row(*row) async for row in cursor])


PRICE_BOOK = Snapshot(kind="prices", load=load_price_book)


def price_row(
    id: int, provider: str, model: str, service_tier: str, valid_from: datetime, bands: list[dict[str, Any]]
) -> PriceRow:
    """A row of the table as pricing takes it."""
    return PriceRow(id, provider, model, service_tier, valid_from, tuple(read_band(band) for band in bands))


def read_band(band: dict[str, Any]) -> Band:
    return Band(
        from_tokens=band["from_tokens"],
        input=Decimal(band["input"]),
        cache_read=Decimal(band["cache_read"]),
        cache_write_5m=Decimal(band["cache_write_5m"]),
        cache_write_1h=Decimal(band["cache_write_1h"]),
        output=Decimal(band["output"]),
    )


def new_rows(*, listed: Iterable[ListedRow], book: PriceBook, kept: frozenset[Key]) -> list[ListedRow]:
    """The rows to append, so that the book says at every instant what the list says.

    Args:
        listed: all rows of the public list, each model's oldest first.
        book: all rows that there are.
        kept: each (provider, model, service tier) with a contract's or a hand-written price, which stay.
    """
    by_key: dict[Key, list[ListedRow]] = {}
    for row in listed:
        by_key.setdefault((row.provider, row.model, row.service_tier), []).append(row)
    return [row for key, rows in by_key.items() if key not in kept for row in _changes(rows, book.rows(*key))]


def _changes(listed: list[ListedRow], present: tuple[PriceRow, ...]) -> Iterator[ListedRow]:
    wanted = {row.valid_from: row for row in listed}
    booked = {row.valid_from: row.bands for row in present}
    row: ListedRow | None = None
    bands: tuple[Band, ...] | None = None
    for instant in sorted({*wanted, *booked}):
        row, bands = wanted.get(instant, row), booked.get(instant, bands)
        if row is not None and row.bands != bands:
            bands = row.bands
            yield replace(row, valid_from=instant)
