"""What the configured rules say of files: which one decides, and why the ones before it do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_sr.failure import Failure

if TYPE_CHECKING:
    from config import Settings
    from pacs_node.examine import Examiner
    from pacs_node.rules import Asked
    from pacs_node.verdict import Verdict


def rule_problems(settings: Settings) -> Iterator[str]:
    """The entries of rules that can never match, each in a sentence; an ordinary configuration has none."""
    if settings.rules:
        from pacs_node.matching import problems

        yield from problems(settings)


def check_rules(settings: Settings) -> None:
    """Raise :class:`Failure` with the first of :func:`rule_problems`."""
    for problem in rule_problems(settings):
        raise Failure(problem)


def verdicts(files: Sequence[Path], asked: Asked, settings: Settings) -> Iterator[Verdict]:
    """The verdict on each file, decoded as the worker does it, in a child process."""
    from pacs_node.examine import Examiner, Limits

    check_rules(settings)
    given = settings.examine
    limits = Limits(given.timeout_seconds, given.memory_bytes, given.max_pixels)
    with ExitStack() as stack:
        examiner = stack.enter_context(Examiner(limits))
        for file in files:
            yield _verdict(file, asked, settings, examiner)


def _verdict(file: Path, asked: Asked, settings: Settings, examiner: Examiner) -> Verdict:
    from pacs_node import rules, verdict
    from pacs_node.errors import Refused

    try:
        examined = examiner.examine(file)
        refusal = examined.refusal
    except Refused as error:
        refusal = error.refusal
    if refusal is not None:
        return verdict.of_refusal(str(file), refusal)
    assert examined.image is not None
    fmt = examined.image.format
    decision = rules.decide(examined.header, fmt.rows, fmt.columns, asked, settings)
    return verdict.of_decision(str(file), decision)
