"""Bills from files: three formats, encodings, separators, decimals; and rows that cannot be read."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest

from aigov.errors import BadRequest
from budgets import bill_files
from budgets.bill_files import parse_usd, read_bill_file
from providers.billing import BilledAmount, model_of_line_item

PLAIN = (
    "provider,day,model,amount_usd\n"
    "openai,2026-10-20,gpt-4o,1.5\n"
    "anthropic,2026-10-21,claude-haiku-4-5,-0.25\n"
)
OPENAI = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,line_item,project_id\n"
    "1761868800,1761955200,2025-10-31T00:00:00+00:00,2025-11-01T00:00:00+00:00,,,,,\n"
    "1761955200,1762041600,2025-11-01T00:00:00+00:00,2025-11-02T00:00:00+00:00,"
    '0.0038359800000000000000000,usd,12,"gpt-5-nano, input",proj_1\n'
    "1761955200,1762041600,2025-11-01T00:00:00,2025-11-02T00:00:00,2,usd,3,web search tool calls,\n"
)
ANTHROPIC = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type\n"
    "2026-08-15,Claude Haiku 4.5,Default,key,message,≤ 200k,output,0.19,0.19,token\n"
)
READ_PLAIN = (
    BilledAmount("openai", date(2026, 10, 20), "gpt-4o", "gpt-4o", Decimal("1.5")),
    BilledAmount("anthropic", date(2026, 10, 21), "claude-haiku-4-5", "claude-haiku-4-5", Decimal("-0.25")),
)


def test_a_plain_table() -> None:
    assert read_bill_file(PLAIN.encode()).lines == READ_PLAIN


def test_what_openai_exports() -> None:
    said = read_bill_file(OPENAI.encode())
    assert (said.format, said.errors) == ("OpenAI", ())
    assert said.lines == (
        BilledAmount("openai", date(2025, 11, 1), "gpt-5-nano", "gpt-5-nano, input", Decimal("0.00383598")),
        BilledAmount("openai", date(2025, 11, 1), "", "web search tool calls", Decimal(2)),
    )


def test_what_anthropic_exports() -> None:
    said = read_bill_file(ANTHROPIC.encode())
    line = BilledAmount(
        "anthropic", date(2026, 8, 15), "Claude Haiku 4.5", "Claude Haiku 4.5 - output", Decimal("0.19")
    )
    assert (said.format, said.lines, said.errors) == ("Anthropic", (line,), ())


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode("cp1252"),
        lambda text: text.replace(",", "\t").encode(),
        lambda text: text.replace(",", ";").replace("1.5", "1,5").replace("-0.25", "-0,25").encode(),
        lambda text: text.replace("2026-10-20", "20.10.2026").replace("provider", "Provider ").encode(),
        lambda text: text.replace("2026-10-20", "2026-10-21T00:30:00+02:00").encode(),
        lambda text: text.replace("1.5\n", '"$1.50"\n\n').encode(),
    ],
)
def test_however_it_was_written(write: Callable[[str], bytes]) -> None:
    assert read_bill_file(write(PLAIN)).lines == READ_PLAIN


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        *(("1234.5", "1234.5"), ("1,234.50", "1234.5"), ("1.234,50", "1234.5"), ("1.234.567,8", "1234567.8")),
        *(("0,0123", "0.0123"), ("0,123", "0.123"), ("1.234", "1.234"), ("-3", "-3"), ("$ 12.30", "12.3")),
        *(
            ("1e-05", "0.00001"),
            ("1'234.50", "1234.5"),
            ("12,5", "12.5"),
            ("0.1234567890123", "0.123456789012"),
        ),
    ],
)
def test_amounts_as_they_are_written(text: str, amount: str) -> None:
    assert parse_usd(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "1,234", "-12,345", "NaN", "1e99", "12€", "1,23,4", "1_0", "٣", "--1"])
def test_amounts_that_are_none_or_two(text: str) -> None:
    with pytest.raises(ValueError, match="amount|two ways"):
        parse_usd(text)


def test_each_row_that_cannot_be_read_is_named() -> None:
    rows = ["openai,2026-10-20,m,x", "azure,2026-10-20,m,1", "openai,20 Oct,m,1", "openai,2030-01-01,m,1"]
    said = read_bill_file(
        "\n".join(["provider,day,model,amount_usd", *rows, "openai,2026-10-20,m,1,2"]).encode()
    )
    assert said.lines == ()
    assert [error.row for error in said.errors] == [2, 3, 4, 5, 6]
    assert ["“x”" in said.errors[0].why, "“azure”" in said.errors[1].why] == [True, True]


def test_dollars_alone() -> None:
    said = read_bill_file(OPENAI.replace(",2,usd,", ",2,eur,").encode())
    assert [error.row for error in said.errors] == [4]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"provider,day,model,amount_usd\n",
        b"day,amount\n2026-10-20,1\n",
        b"provider,day,model,amount_usd,day\nopenai,2026-10-20,m,1,2026-10-20\n",
        b"\x00\x01\x02provider,day,model,amount_usd",
        b"\xff\xfe\x00",
        b'provider,day,model,amount_usd\nopenai,2026-10-20,"m' + b"x" * 200_000,
    ],
)
def test_what_is_no_bill(content: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        read_bill_file(content)
    assert refused.value.param == "file"


def test_a_file_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bill_files, "ROWS_MAX", 1)
    with pytest.raises(BadRequest, match="more than 1 rows"):
        read_bill_file(PLAIN.encode())
    monkeypatch.setattr(bill_files, "FILE_BYTES_MAX", 2**20)
    with pytest.raises(BadRequest, match="larger than 1 MiB"):
        read_bill_file(b"x" * (2**20 + 1))


@pytest.mark.parametrize(
    ("item", "model"),
    [
        ("gpt-4o-2024-08-06, cached input", "gpt-4o-2024-08-06"),
        ("priority | gpt-5.4, output, long context", "gpt-5.4"),
        ("gpt-image-2 image, output", "gpt-image-2"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc, input", "ft:gpt-4o-mini-2024-07-18:acme::abc"),
        *(("web search tool calls", ""), ("Vector storage", ""), ("", "")),
    ],
)
def test_the_model_in_a_line_item(item: str, model: str) -> None:
    assert model_of_line_item(item) == model
