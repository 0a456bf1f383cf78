"""Bring the catalogues of webui/translations to the words that are marked in pages, Python and the front end.

Run it with `make words`. New words come with an empty translation, lost ones go; a test fails while one is
empty. `make install` compiles what is translated.
"""

from __future__ import annotations

import os
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
WEBUI = ROOT / "webui"
TRANSLATIONS = WEBUI / "translations"

KEYWORDS = DEFAULT_KEYWORDS | {"lazy_gettext": None, "lazy_ngettext": (1, 2), "t": None}

MARKED = {
    "messages": [("**.py", "python"), ("templates/**.html", "jinja2")],
    "scripts": [("frontend/src/**.ts", "javascript")],
}
"""For each catalogue: which files of `webui` are read, and how."""

OPTIONS = {
    "templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"},
    "frontend/src/**.ts": {"template_string": "true"},
}


def extracted(domain: str) -> Catalog:
    """The words that are marked for a catalogue, untranslated."""
    catalogue = Catalog(project="cxr-sr", version="0", charset="utf-8")
    found = extract_from_dir(
        WEBUI, MARKED[domain], options_map=OPTIONS, keywords=KEYWORDS, directory_filter=_ours
    )
    for file, _line, words, _comments, context in sorted(found, key=lambda one: (one[0], one[1])):
        catalogue.add(words, locations=[(f"webui/{file}", 0)], context=context)
    return catalogue


def _ours(folder: str | os.PathLike[str]) -> bool:
    return Path(folder).name not in {"node_modules", "static", "__pycache__", "translations"}


def catalogue(language: str, domain: str) -> Catalog:
    """A catalogue as it is kept."""
    with _file(language, domain).open("rb") as stream:
        return read_po(stream, locale=language, domain=domain)


def update(language: str, domain: str) -> int:
    """Bring one catalogue to what is marked; returns how many words it does not have yet."""
    file = _file(language, domain)
    kept = catalogue(language, domain) if file.exists() else Catalog(locale=language, domain=domain)
    kept.update(extracted(domain), no_fuzzy_matching=True)
    kept.header_comment, kept.fuzzy = f"# The words of the pages, language {language}.", False
    kept.project, kept.version, kept.last_translator = "cxr-sr", "0", "the project"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        write_po(stream, kept, width=110, omit_header=False, ignore_obsolete=True, include_lineno=False)
    _without_dates(file)
    return len(untranslated(kept))


def untranslated(kept: Catalog) -> list[str]:
    """Words of a catalogue that have no translation yet, or lack a plural's."""
    gaps = []
    for one in kept:
        said = list(one.string) if isinstance(one.string, tuple | list) else [one.string]
        if one.id and not all(said):
            gaps.append(str(one.id if isinstance(one.id, str) else one.id[0]))
    return gaps


def _without_dates(file: Path) -> None:
    """Dates and tools in the header make every update a change."""
    gone = ('"POT-Creation-Date', '"PO-Revision-Date', '"Generated-By', '"Report-Msgid', '"Language-Team')
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(gone)), "utf-8")


def _file(language: str, domain: str) -> Path:
    return TRANSLATIONS / language / "LC_MESSAGES" / f"{domain}.po"


def main() -> None:
    for folder in sorted(TRANSLATIONS.iterdir()):
        for domain in MARKED:
            missing = update(folder.name, domain)
            print(f"{folder.name} {domain}: {missing} to translate")


if __name__ == "__main__":
    main()
