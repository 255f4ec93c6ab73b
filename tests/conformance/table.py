"""The tables of `docs/conformance.md`, made of the cases: `python -m tests.conformance.table` writes them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.conformance import anthropic_cases, openai_cases
from tests.conformance.case import CLIENTS, Case, Client, Refusal
from tests.conformance.comparison import DOCUMENTED

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "conformance.md"
CASES = (*openai_cases.CASES, *anthropic_cases.CASES)
REFUSALS = (*openai_cases.REFUSALS, *anthropic_cases.REFUSALS)
NONE = "–"


def features() -> str:
    """Each feature, by client and by whose models answer."""
    head = ["Feature"]
    for client in CLIENTS:
        head += [f"`{client}`, own models", f"`{client}`, the other's models"]
    rows = [[feature, *_cells(feature)] for feature in _features(CASES)]
    return _table(head, rows)


def _features(cases: Iterable[Case | Refusal]) -> Iterable[str]:
    return dict.fromkeys(case.feature for case in cases)


def _cells(feature: str) -> Iterator[str]:
    for client in CLIENTS:
        case = next((case for case in CASES if (case.client, case.feature) == (client, feature)), None)
        if case is None:
            yield from (NONE, NONE)
            continue
        ways = ", ".join(case.ways)
        yield ways
        yield f"refused: `{case.refused}`" if case.refused else ways


def refusals() -> str:
    """What is refused whoever answers."""
    rows = [[feature, *(_refusal(feature, client) for client in CLIENTS)] for feature in _features(REFUSALS)]
    return _table(["Asked for", *(f"`{client}`" for client in CLIENTS)], rows)


def _refusal(feature: str, client: Client) -> str:
    found = [each for each in REFUSALS if (each.client, each.feature) == (client, feature)]
    if not found:
        return NONE
    named = f": `{found[0].param}`" if found[0].param else ""
    return f"{found[0].status} `{found[0].error}`{named}"


def differences() -> str:
    """What may differ from the provider's own answer."""
    rows = [[f"`{each.client}`", f"`{each.field}`", each.why] for each in DOCUMENTED]
    return _table(["Client", "Field", ""], rows)


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES = {"features": features, "refusals": refusals, "differences": differences}


def with_tables(text: str) -> str:
    """`text` with each table between its marks as the cases have it."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        _, ended, after = rest.partition(end)
        assert found and ended, f"docs/conformance.md has no place for the {name}"
        text = f"{before}{start}{table()}\n{end}{after}"
    return text


if __name__ == "__main__":
    DOCS.write_text(with_tables(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
