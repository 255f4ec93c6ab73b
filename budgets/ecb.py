"""The European Central Bank's reference rates, from the files that it publishes.

https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates/

It says dollars for one euro, a line a day: `eurofxref-daily.xml` (and `-hist-90d.xml`, `-hist.xml`) or
`eurofxref-hist.csv`, also in a zip. We keep euro for one dollar, rounded to the table's ten places. Rates are
only appended: a day whose rate is in force already gets no row, so a file can be imported again and again.
Nothing is fetched; the file comes from whoever imports it.
"""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from xml.etree import ElementTree

from django.db import connection, transaction
from django.utils.translation import gettext as _

from aigov.errors import BadRequest
from aigov.organizations.audit import Acting, write_audit_entry
from budgets.models import FxRate

CURRENCY = "USD"
SOURCE = "European Central Bank"
FILE_BYTES_MAX = 16 * 2**20
DAYS_MAX = 20_000
PLACES = Decimal("0.0000000001")
#: Two imports at once would both append the same rows.
LOCK = 7_290_312


@dataclass(frozen=True, slots=True)
class DayRate:
    """Euro for one US dollar, from a day on."""

    day: date
    eur_per_usd: Decimal


def read_file(content: bytes) -> list[DayRate]:
    """The dollar's rates in one of the ECB's files, the oldest first.

    Raises:
        BadRequest: it is none of them, too long, or has no rate of the dollar; `param` is `file`.
    """
    _check_size(len(content))
    if content.startswith(b"PK"):
        content = _unzipped(content)
    text = _text(content)
    days = _of_xml(text) if text.lstrip().startswith("<") else _of_csv(text)
    rates = {rate.day: rate for rate in _limited(days)}
    if not rates:
        raise _refusal(_("There is no rate of the US dollar in this file."))
    return [rates[day] for day in sorted(rates)]


@transaction.atomic
def append_rates(*, rates: Iterable[DayRate], source: str, acting: Acting, reason: str = "") -> list[DayRate]:
    """Appends those of `rates` that are not in force for their day already, and returns them.

    Raises:
        BadRequest: a rate is not positive, or too large; `param` is `eur_per_unit`.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    in_force = dict(FxRate.objects.order_by("id").values_list("valid_from", "eur_per_unit"))
    new = [rate for rate in rates if in_force.get(rate.day) != _checked(rate).eur_per_usd]
    FxRate.objects.bulk_create(
        FxRate(currency=CURRENCY, valid_from=rate.day, eur_per_unit=rate.eur_per_usd, source=source)
        for rate in new
    )
    if new:
        _audit(new, source=source, acting=acting, reason=reason)
    return new


def _audit(new: list[DayRate], *, source: str, acting: Acting, reason: str) -> None:
    newest = max(new, key=lambda rate: rate.day)
    write_audit_entry(
        organization=None,
        acting=acting,
        action="fx_rate.append",
        target=f"{CURRENCY}, {source}",
        after={
            "rows": len(new),
            "first_day": min(rate.day for rate in new).isoformat(),
            "last_day": newest.day.isoformat(),
            "eur_per_usd": f"{newest.eur_per_usd:f}",
        },
        reason=reason,
    )


def _checked(rate: DayRate) -> DayRate:
    if not rate.eur_per_usd.is_finite() or not PLACES <= rate.eur_per_usd < 10**8:
        raise BadRequest(_("A rate is a number above 0."), param="eur_per_unit")
    return rate


def _check_size(size: int) -> None:
    if size > FILE_BYTES_MAX:
        raise _refusal(_("The file is larger than %(max)d MiB.") % {"max": FILE_BYTES_MAX // 2**20})


def _unzipped(content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            [member] = archive.infolist()
            with archive.open(member) as file:
                unzipped = file.read(FILE_BYTES_MAX + 1)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, OSError):
        raise _refusal(_("The zip file cannot be read, or has more than one file in it.")) from None
    _check_size(len(unzipped))
    return unzipped


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _unknown() from None


def _of_xml(text: str) -> Iterator[DayRate]:
    if "<!" in text.replace("<!--", ""):
        raise _unknown()  # a document type, whose entities could grow without end
    try:
        root = ElementTree.fromstring(text.encode())
    except (ElementTree.ParseError, ValueError):
        raise _unknown() from None
    for day in root.iter():
        if "time" in day.attrib:
            for rate in day:
                if rate.attrib.get("currency") == CURRENCY:
                    yield _day_rate(day.attrib["time"], rate.attrib.get("rate", ""))


def _of_csv(text: str) -> Iterator[DayRate]:
    lines = csv.reader(io.StringIO(text))
    header = [name.strip() for name in next(lines, [])]
    if header[:1] != ["Date"] or CURRENCY not in header:
        raise _unknown()
    at = header.index(CURRENCY)
    for line in lines:
        if len(line) > at and line[at].strip() not in ("", "N/A"):
            yield _day_rate(line[0].strip(), line[at].strip())


def _day_rate(day: str, usd_per_eur: str) -> DayRate:
    try:
        rate = Decimal(usd_per_eur)
        return DayRate(_day(day), (1 / rate).quantize(PLACES, rounding=ROUND_HALF_EVEN))
    except (ValueError, ArithmeticError, InvalidOperation):
        raise _refusal(
            _("“%(rate)s” of “%(day)s” is no rate.") % {"rate": usd_per_eur[:40], "day": day[:40]}
        ) from None


def _day(text: str) -> date:
    """`2026-11-20`, or `20 November 2026` as in the daily table."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return datetime.strptime(text, "%d %B %Y").date()


def _limited(days: Iterator[DayRate]) -> Iterator[DayRate]:
    for number, rate in enumerate(days):
        if number >= DAYS_MAX:
            raise _refusal(_("The file has more than %(max)d days.") % {"max": DAYS_MAX})
        yield rate


def _unknown() -> BadRequest:
    return _refusal(
        _("This is no file of the European Central Bank, such as eurofxref-daily.xml or eurofxref-hist.zip.")
    )


def _refusal(message: str) -> BadRequest:
    return BadRequest(message, param="file")
