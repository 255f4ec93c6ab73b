"""Every text that people see has its German translation, and the compiled catalogue is that of the source."""

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.utils.translation.template import templatize

ROOMS = ("aigov", "providers", "budgets", "routing", "kpis")
TRANSLATORS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy"}
CATALOGUE = Path(settings.LOCALE_PATHS[0]) / "de" / "LC_MESSAGES"
#: As templatize() writes what a template translates.
IN_TEMPLATE = re.compile(
    r"""(?<![a-z])n?gettext\(u?(?P<quote>'|")(?P<text>(?:\\.|(?!(?P=quote)).)*)(?P=quote)""", re.S
)


def texts_in_python(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        text = node.args[1 if name.startswith("pgettext") else 0] if name in TRANSLATORS else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            yield text.value


def texts_in_template(path: Path) -> Iterator[str]:
    for found in IN_TEMPLATE.finditer(templatize(path.read_text())):
        yield ast.literal_eval(found["quote"] * 3 + found["text"] + found["quote"] * 3)


def texts() -> dict[str, Path]:
    base = settings.BASE_DIR
    python = (
        path for room in ROOMS for path in (base / room).rglob("*.py") if "migrations" not in path.parts
    )
    found = {text: path for path in python for text in texts_in_python(path)}
    for path in (base / "templates").rglob("*.*"):
        found.update(dict.fromkeys(texts_in_template(path), path))
    return found


@pytest.fixture(scope="module")
def catalogue() -> polib.POFile:
    return polib.pofile(str(CATALOGUE / "django.po"))


def translations(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def test_every_text_is_translated(catalogue: polib.POFile) -> None:
    known = {entry.msgid for entry in catalogue if entry.translated() and not entry.obsolete}
    missing = {text: str(path) for text, path in texts().items() if text and text not in known}
    assert missing == {}, "run `make messages` and translate what is new"


def test_no_translation_is_left_of_a_text_that_has_gone(catalogue: polib.POFile) -> None:
    assert [entry.msgid for entry in catalogue if entry.obsolete or entry.fuzzy] == []


def test_placeholders_are_the_same_in_both_languages(catalogue: polib.POFile) -> None:
    def placeholders(text: str) -> set[str]:
        return set(re.findall(r"%\(\w+\)[sd]|\{\w*\}", text))

    for entry in catalogue:
        wanted = placeholders(entry.msgid_plural or entry.msgid)
        assert placeholders(translations(entry)[-1]) == wanted, entry.msgid


def test_the_compiled_catalogue_is_that_of_the_source(catalogue: polib.POFile) -> None:
    with (CATALOGUE / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for entry in catalogue:
        if entry.msgid_plural:
            assert [compiled.ngettext(entry.msgid, entry.msgid_plural, n) for n in (1, 2)] == translations(
                entry
            )
        elif entry.msgctxt:
            assert compiled.pgettext(entry.msgctxt, entry.msgid) == entry.msgstr
        else:
            assert compiled.gettext(entry.msgid) == entry.msgstr
