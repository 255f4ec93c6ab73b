from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from providers.models import Price
from providers.price_book import ListedRow, new_rows, price_row
from providers.price_source import SOURCE, bands_json, source_rows, source_version
from providers.pricing import PriceBook

#: Two imports at once would both append the same rows.
LOCK = 7_290_311


class Command(BaseCommand):
    help = "Appends the prices of the installed genai-prices where they differ from those in force."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="show the rows, and append none")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            rows = changed_rows()
            if not dry_run:
                append(rows)
        for row in rows:
            self.stdout.write(
                f"{row.provider} {row.model} ({row.service_tier}) from {row.valid_from:%Y-%m-%d}"
            )
        word = "would be appended" if dry_run else "appended"
        self.stdout.write(f"{len(rows)} prices {word} (genai-prices {source_version()}).")


def changed_rows() -> list[ListedRow]:
    """The rows of the installed list that the book lacks; a contract's or hand-written price is kept."""
    fields = ("id", "provider", "model", "service_tier", "valid_from", "bands")
    book = PriceBook(price_row(*row) for row in Price.objects.values_list(*fields))
    keys = Price.objects.values_list("provider", "model", "service_tier", "source").distinct()
    kept = frozenset((provider, model, tier) for provider, model, tier, source in keys if source != SOURCE)
    return new_rows(listed=source_rows(), book=book, kept=kept)


def append(rows: list[ListedRow]) -> None:
    Price.objects.bulk_create(
        Price(
            provider=row.provider,
            model=row.model,
            service_tier=row.service_tier,
            valid_from=row.valid_from,
            bands=bands_json(row.bands),
            source=SOURCE,
            source_version=source_version(),
        )
        for row in rows
    )
