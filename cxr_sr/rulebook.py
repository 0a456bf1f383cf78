"""What the configured rules say of files: which one decides, and why the ones before it do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_sr.failure import Failure

if TYPE_CHECKING:
    from config import Settings
    from pacs_node.examine import Examiner
    from pacs_node.rules import Asked, PassedOver


@dataclass(frozen=True)
class Verdict:
    """What would become of one file; `action` is `enhance`, `skip` or `fail`."""

    file: str
    action: str
    rule: str = ""
    code: str = ""
    reason: str = ""
    scale: int | None = None
    model: str | None = None
    priority: str | None = None
    destinations: Sequence[str] = ()
    release: str | None = None
    forward_original: str | None = None
    warnings: Sequence[str] = ()
    passed_over: Sequence[dict[str, object]] = field(default_factory=tuple)
    """Each earlier rule with the entry that did not match, what it wanted and what was found."""

    def record(self) -> dict[str, object]:
        """Everything, for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The same for people."""
        by = f' by the rule "{self.rule}"' if self.rule else ""
        if self.action == "enhance":
            where = ", ".join(self.destinations) or "nowhere"
            yield f"{self.file}: enhance x{self.scale} with {self.model}{by}"
            yield (
                f"  goes to {where}; {self.priority}; release {self.release}; "
                f"original {self.forward_original}"
            )
        else:
            yield f"{self.file}: {self.action}{by} ({self.code})"
            yield f"  {self.reason}"
        for warning in self.warnings:
            yield f"  warning: {warning}"
        for passed in self.passed_over:
            yield f'  not by "{passed["rule"]}": {passed["why"]}'


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
    from db.states import Priority
    from pacs_node import rules
    from pacs_node.errors import Outcome, Refused

    try:
        examined = examiner.examine(file)
        refusal = examined.refusal
    except Refused as error:
        refusal = error.refusal
    if refusal is not None:
        action = "skip" if refusal.outcome is Outcome.SKIP else "fail"
        return Verdict(str(file), action, code=refusal.reason.value, reason=refusal.sentence)
    assert examined.image is not None
    fmt = examined.image.format
    decision = rules.decide(examined.header, fmt.rows, fmt.columns, asked, settings)
    passed_over = tuple(_passed_over(passed) for passed in decision.passed_over)
    if decision.action == "skip":
        return Verdict(
            str(file), "skip", decision.rule, decision.code, decision.reason, passed_over=passed_over
        )
    return Verdict(
        file=str(file),
        action="enhance",
        rule=decision.rule,
        scale=decision.scale,
        model=decision.model,
        priority=(Priority.ROUTINE if decision.priority is None else decision.priority).name.lower(),
        destinations=decision.destinations,
        release=decision.release,
        forward_original=decision.forward_original,
        warnings=decision.warnings,
        passed_over=passed_over,
    )


def _passed_over(passed: PassedOver) -> dict[str, object]:
    from pacs_node import matching

    entry, found = passed.mismatch.entry, list(passed.mismatch.found)
    return {
        "rule": passed.rule,
        "entry": entry,
        "wanted": list(passed.mismatch.wanted),
        "found": None if matching.is_about_patient(entry) else found,
        "why": str(passed.mismatch),
    }
