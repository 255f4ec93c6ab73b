from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aigov.errors import BadRequest
from budgets.ecb import FILE_BYTES_MAX, SOURCE, append_rates, read_file


class Command(BaseCommand):
    help = (
        "Appends the exchange rates of a file of the European Central Bank (eurofxref-*.xml, .csv or .zip)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            with file.open("rb") as opened:
                rates = read_file(opened.read(FILE_BYTES_MAX + 1))
            new = append_rates(rates=rates, source=SOURCE, acting="manage.py import_ecb_rates")
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
        except BadRequest as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{len(new)} of {len(rates)} exchange rates appended.")
