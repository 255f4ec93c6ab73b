"""The ECB's files, read and appended."""

import io
import zipfile
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from aigov.errors import BadRequest
from aigov.organizations.models import AuditEntry
from budgets import ecb
from budgets.ecb import DayRate, append_rates, read_file
from budgets.models import FxRate

DAILY = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
  <gesmes:subject>Reference rates</gesmes:subject>
  <gesmes:Sender><gesmes:name>European Central Bank</gesmes:name></gesmes:Sender>
  <Cube>
    <Cube time='1999-02-03'>
      <Cube currency='USD' rate='1.1312'/>
      <Cube currency='JPY' rate='128.66'/>
    </Cube>
  </Cube>
</gesmes:Envelope>"""
HISTORY = b"""Date,USD,JPY,CYP,
1999-02-05,1.1283,127.31,0.58194,
1999-02-04,N/A,128.33,0.58187,
1999-02-03,1.25,128.66,0.58191,
"""
ONE_DAY = b"Date, USD, JPY, \n03 February 1999, 1.1312, 128.66, \n"


def zipped(*contents: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"eurofxref-{number}.csv", content)
    return file.getvalue()


@pytest.fixture
def rolled_back() -> Iterator[None]:
    """Rates are never deleted; so that other tests find the ones they know, these are not kept."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def test_the_daily_file_says_dollars_for_a_euro() -> None:
    assert read_file(DAILY) == [DayRate(date(1999, 2, 3), Decimal("0.8840169731"))]


def test_the_history_is_read_oldest_first_without_days_that_have_no_rate() -> None:
    expected = [
        DayRate(date(1999, 2, 3), Decimal("0.8000000000")),
        DayRate(date(1999, 2, 5), Decimal("0.8862891075")),
    ]
    assert read_file(HISTORY) == expected
    assert read_file(zipped(HISTORY)) == expected
    assert read_file(b"\xef\xbb\xbf" + HISTORY) == expected


def test_the_daily_table_has_its_own_way_with_dates() -> None:
    assert read_file(ONE_DAY) == [DayRate(date(1999, 2, 3), Decimal("0.8840169731"))]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"Date,JPY,\n1999-02-03,128.66,\n",
        b"Date,USD,\n",
        b"Date,USD,\n1999-02-03,0,\n",
        b"Date,USD,\n1999-02-03,abc,\n",
        b"Date,USD,\n1999-02-33,1.1,\n",
        b"<a>",
        b"<a/>",
        DAILY.replace(b"1.1312", b""),
        DAILY.replace(b"<gesmes:Envelope", b"<!DOCTYPE x [<!ENTITY a 'aaa'>]><gesmes:Envelope"),
        b"PK nonsense",
        zipped(HISTORY, HISTORY),
        zipped(),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    with pytest.raises(BadRequest) as refusal:
        read_file(content)
    assert refusal.value.param == "file"


def test_a_file_has_a_largest_size_zipped_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecb, "FILE_BYTES_MAX", 1_000)
    with pytest.raises(BadRequest, match="larger than"):
        read_file(b"x" * 1_001)
    bomb = zipped(b"x" * 100_000)
    assert len(bomb) <= 1_000
    with pytest.raises(BadRequest, match="larger than"):
        read_file(bomb)


def test_a_file_has_a_largest_number_of_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecb, "DAYS_MAX", 1)
    with pytest.raises(BadRequest, match="more than 1 days"):
        read_file(HISTORY)


@pytest.mark.usefixtures("rolled_back")
def test_only_what_is_not_in_force_is_appended() -> None:
    rates = read_file(HISTORY)
    assert append_rates(rates=rates, source="ECB", acting="the tests") == rates
    assert append_rates(rates=rates, source="ECB", acting="the tests") == []
    corrected = read_file(DAILY)
    assert append_rates(rates=corrected, source="ECB", acting="the tests") == corrected
    assert append_rates(rates=rates, source="ECB", acting="the tests") == rates[:1]
    rows = FxRate.objects.filter(valid_from=date(1999, 2, 3)).order_by("id")
    assert [row.eur_per_unit for row in rows] == [Decimal("0.8"), Decimal("0.8840169731"), Decimal("0.8")]


@pytest.mark.usefixtures("rolled_back")
def test_the_audit_trail_says_what_came() -> None:
    append_rates(rates=read_file(HISTORY), source="ECB", acting="the tests", reason="monthly")
    entry = AuditEntry.objects.filter(action="fx_rate.append").latest("id")
    assert (entry.organization, entry.actor, entry.reason) == (None, "the tests", "monthly")
    assert entry.after == {
        "rows": 2,
        "first_day": "1999-02-03",
        "last_day": "1999-02-05",
        "eur_per_usd": "0.8862891075",
    }


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "Infinity", "100000000"])
def test_a_rate_is_a_positive_number(rate: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        append_rates(rates=[DayRate(date(1999, 2, 3), Decimal(rate))], source="x", acting="the tests")
    assert refusal.value.param == "eur_per_unit"


@pytest.mark.usefixtures("rolled_back")
def test_the_command_imports_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "eurofxref-hist.csv"
    file.write_bytes(HISTORY)
    call_command("import_ecb_rates", file)
    call_command("import_ecb_rates", file)
    assert capsys.readouterr().out == ("2 of 2 exchange rates appended.\n0 of 2 exchange rates appended.\n")


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_ecb_rates", tmp_path / "nothing")
    (tmp_path / "other").write_bytes(b"hello")
    with pytest.raises(CommandError, match="no file of the European Central Bank"):
        call_command("import_ecb_rates", tmp_path / "other")
