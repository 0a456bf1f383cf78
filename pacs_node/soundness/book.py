"""What a rule is, and what breaking one gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pacs_node.soundness.pair import Pair

Judge = Callable[[Pair], Iterator[str]]
"""Yields one phrase for each thing that is wrong."""


@dataclass(frozen=True, slots=True)
class Rule:
    """name: for programs and the command line; section: of DICOM, where it stands; sentence: what it asks."""

    name: str
    section: str
    sentence: str
    judge: Judge


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a pair breaks, and what in it."""

    rule: Rule
    detail: str

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.detail}. {self.rule.sentence} ({self.rule.section})"


class Rules(list[Rule]):
    """The rules of one module, in their order."""

    def add(self, name: str, section: str, sentence: str) -> Callable[[Judge], Judge]:
        """Decorate a judge so that it becomes a rule."""

        def decorate(judge: Judge) -> Judge:
            self.append(Rule(name, section, sentence, judge))
            return judge

        return decorate


def judged(rule: Rule, pair: Pair) -> Iterator[Finding]:
    """The findings of one rule. What is too malformed to be judged is a finding too."""
    try:
        for detail in rule.judge(pair):
            yield Finding(rule, detail)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        yield Finding(rule, "it cannot be judged: an attribute that it needs is missing or malformed")
