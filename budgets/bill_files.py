"""Bills from files: OpenAI's and Anthropic's own exports, and a plain table of ours.

    provider,day,model,amount_usd            (and, if wanted, description)
    openai,2026-11-20,gpt-4o-mini,1.2345

OpenAI's is the dashboard's export of costs (`amount_value`, `line_item`), Anthropic's that of the Console's
cost page (`usage_date_utc`, `cost_usd`), which has cents alone. Which it is, the header says. A file may be
UTF-8, UTF-16 or Windows' encoding, its columns separated by commas, semicolons or tabs, its decimals by a
point or a comma. Each row that cannot be read is named with its number; nothing is guessed.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from django.utils.translation import gettext as _

from aigov import clock
from aigov.errors import BadRequest
from aigov.spreadsheets import csv_text, separator_in
from providers.billing import DESCRIPTION_CHARACTERS_MAX, PLACES, BilledAmount, model_of_line_item
from providers.models import ProviderName

FILE_BYTES_MAX = 8 * 2**20
ROWS_MAX = 100_000
CELL_CHARACTERS_MAX = 10_000
MODEL_CHARACTERS_MAX = 200
AMOUNT_MAX = Decimal(10) ** 9
FIRST_DAY = date(2020, 1, 1)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(E-?\d{1,2})?", re.ASCII | re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,])\d{3}(?:\1\d{3})*(?!\1)([.,]\d+)?", re.ASCII)
#: A thousand to some, one and a bit to others. (A lone point is a decimal one: so write programs.)
_TWO_READINGS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_IGNORED = str.maketrans(
    "", "", " \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}$'\N{RIGHT SINGLE QUOTATION MARK}"
)

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that cannot be read: its number in the file, where the header is row 1, and why."""

    row: int
    why: str


@dataclass(frozen=True, slots=True)
class BillFile:
    """What a file says, and which of its rows cannot be read."""

    format: str
    lines: tuple[BilledAmount, ...]
    errors: tuple[RowError, ...]


def read_bill_file(content: bytes) -> BillFile:
    """The bill in a file's `content`.

    Raises:
        BadRequest: it is none of the formats, too long, or says nothing; `param` is `file`.
    """
    if len(content) > FILE_BYTES_MAX:
        raise _refusal(_("The file is larger than %(max)d MiB.") % {"max": FILE_BYTES_MAX // 2**20})
    rows = _rows(_text(content))
    header = [name.strip().lower() for name in next(rows, (0, []))[1]]
    name, read = _format(header)
    lines: list[BilledAmount] = []
    errors: list[RowError] = []
    for number, cells in rows:
        try:
            if any(cell.strip() for cell in cells):
                lines.extend(read(_row(header, cells)))
        except ValueError as error:
            errors.append(RowError(number, str(error)))
    if not lines and not errors:
        raise _refusal(_("There is no amount in this file."))
    return BillFile(name, tuple(lines), tuple(errors))


def _format(header: list[str]) -> tuple[str, Callable[[Row], Iterator[BilledAmount]]]:
    columns = set(header)
    if len(columns) == len(header):
        for name, needed, read in _FORMATS:
            if needed <= columns:
                return name, read
    raise _refusal(
        _(
            "This is no bill that we know: neither OpenAI's export of costs nor Anthropic's, nor a table with"
            " the columns provider, day, model and amount_usd."
        )
    )


def _text(content: bytes) -> str:
    try:
        return csv_text(content)
    except ValueError:
        raise _refusal(_("The file is no text.")) from None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with their numbers."""
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator_in(text))
    try:
        for number, cells in enumerate(lines, start=1):
            if number > ROWS_MAX + 1:
                raise _refusal(_("The file has more than %(max)d rows.") % {"max": ROWS_MAX})
            yield number, cells
    except csv.Error:
        raise _refusal(_("The file is no table of values.")) from None


def _row(header: list[str], cells: list[str]) -> Row:
    if len(cells) > len(header):
        raise ValueError(_("It has more values than there are columns."))
    if any(len(cell) > CELL_CHARACTERS_MAX for cell in cells):
        raise ValueError(_("A value is too long."))
    values = dict.fromkeys(header, "")
    values.update(zip(header, (cell.strip() for cell in cells), strict=False))
    return values


# --- The formats


def _plain(row: Row) -> Iterator[BilledAmount]:
    provider = row["provider"].lower()
    if provider not in ProviderName.values:
        raise ValueError(_("“%(text)s” is no provider that we know.") % {"text": row["provider"][:40]})
    description = row.get("description", "") or row["model"]
    yield _line(provider, _day(row["day"]), row["model"], description, row["amount_usd"])


def _openai(row: Row) -> Iterator[BilledAmount]:
    """A day without costs has a row without an amount."""
    if not row["amount_value"]:
        return
    if row["amount_currency"].lower() != "usd":
        raise ValueError(_("The amount is not in US dollars."))
    day = _day(row.get("start_time_iso") or row.get("start_time", ""))
    item = row.get("line_item", "")
    yield _line(ProviderName.OPENAI, day, model_of_line_item(item), item, row["amount_value"])


def _anthropic(row: Row) -> Iterator[BilledAmount]:
    description = " - ".join(part for part in (row["model"], row.get("token_type", "")) if part)
    yield _line(
        ProviderName.ANTHROPIC,
        _day(row["usage_date_utc"]),
        row["model"],
        description or row.get("cost_type", ""),
        row["cost_usd"],
    )


_FORMATS = (
    ("OpenAI", {"amount_value", "amount_currency"}, _openai),
    ("Anthropic", {"usage_date_utc", "cost_usd", "model"}, _anthropic),
    ("provider, day, model, amount_usd", {"provider", "day", "model", "amount_usd"}, _plain),
)


def _line(provider: str, day: date, model: str, description: str, amount: str) -> BilledAmount:
    if len(model) > MODEL_CHARACTERS_MAX:
        raise ValueError(_("The model's name is too long."))
    return BilledAmount(provider, day, model, description[:DESCRIPTION_CHARACTERS_MAX], parse_usd(amount))


# --- Values


def parse_usd(text: str) -> Decimal:
    """The amount that `text` says: `1234.5`, `1,234.50`, `1.234,50`, `0,0123`, `-3`, `1e-05`.

    Raises:
        ValueError: it says none, or could be read in two ways (`1,234`).
    """
    bare = text.translate(_IGNORED)
    if _TWO_READINGS.fullmatch(bare):
        raise ValueError(_("“%(text)s” can be read in two ways.") % {"text": text[:40]})
    grouped = _GROUPED.fullmatch(bare)
    if grouped and grouped[2] and grouped[2][0] != grouped[1]:
        bare = bare.replace(grouped[1], "").replace(",", ".")
    elif bare.count(",") == 1 and "." not in bare:
        bare = bare.replace(",", ".")
    if not _NUMBER.fullmatch(bare):
        raise ValueError(_("“%(text)s” is no amount.") % {"text": text[:40]})
    amount = Decimal(bare)
    if abs(amount) >= AMOUNT_MAX:
        raise ValueError(_("“%(text)s” is too large an amount.") % {"text": text[:40]})
    return round(amount, PLACES)


def _day(text: str) -> date:
    """A UTC day: `2026-11-20`, with or without a time, `20.11.2026`, or Unix seconds."""
    day = None
    for read in (_iso_day, _german_day, _unix_day):
        try:
            day = read(text)
            break
        except (ValueError, OverflowError, OSError):
            continue
    if day is None or not FIRST_DAY <= day <= clock.now().date():
        raise ValueError(_("“%(text)s” is no day that has been.") % {"text": text[:40]})
    return day


def _iso_day(text: str) -> date:
    if text.isdecimal():
        raise ValueError
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo is None else at.astimezone(UTC)).date()


def _german_day(text: str) -> date:
    return datetime.strptime(text, "%d.%m.%Y").date()


def _unix_day(text: str) -> date:
    return datetime.fromtimestamp(int(text), UTC).date()


def _refusal(message: str) -> BadRequest:
    return BadRequest(message, param="file")
