"""The rule book: what must hold between a source and an object derived from it, as executable checks.

Every rule has a name, the section of DICOM that it comes from and a sentence for people. They apply to any
pair, whoever made it, and know nothing of how `pacs_node.derive` works but the tables of `pacs_node.recipe`.
Findings name attributes and never values of patients.
"""

from __future__ import annotations

from pacs_node.soundness import geometry, identity, kept, pixels, provenance, words
from pacs_node.soundness.book import Finding, Rule, judged
from pacs_node.soundness.pair import Pair, Side

__all__ = ["RULES", "Finding", "Pair", "Rule", "Side", "check", "table"]

RULES: tuple[Rule, ...] = (
    *identity.RULES,
    *kept.RULES,
    *geometry.RULES,
    *pixels.RULES,
    *provenance.RULES,
    *words.RULES,
)
"""Every rule, in the order in which findings are told."""


def table() -> str:
    """Every rule as a row of a Markdown table, for the documentation."""
    rows = [f"| `{rule.name}` | {rule.sentence} | {rule.section} |" for rule in RULES]
    return "\n".join(["| rule | what it asks | where it stands |", "| --- | --- | --- |", *rows]) + "\n"


def check(pair: Pair) -> list[Finding]:
    """What is wrong with `pair.derived` as an object derived from `pair.source`; empty for a sound one."""
    return [finding for rule in RULES for finding in judged(rule, pair)]
