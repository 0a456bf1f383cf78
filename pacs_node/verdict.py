"""What the rules say of one object, in a form that people and programs can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from db.states import Priority
from pacs_node import matching
from pacs_node.errors import Outcome, Refusal
from pacs_node.rules import Decision, PassedOver


@dataclass(frozen=True)
class Verdict:
    """What would become of one object; `action` is `enhance`, `skip` or `fail`."""

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


def of_refusal(file: str, refusal: Refusal) -> Verdict:
    """The verdict on what cannot be decoded."""
    action = "skip" if refusal.outcome is Outcome.SKIP else "fail"
    return Verdict(file, action, code=refusal.reason.value, reason=refusal.sentence)


def of_decision(file: str, decision: Decision) -> Verdict:
    """The verdict that a decision is; values of attributes about patients are left out."""
    passed_over = tuple(_passed_over(passed) for passed in decision.passed_over)
    if decision.action == "skip":
        return Verdict(file, "skip", decision.rule, decision.code, decision.reason, passed_over=passed_over)
    return Verdict(
        file=file,
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
    entry, found = passed.mismatch.entry, list(passed.mismatch.found)
    return {
        "rule": passed.rule,
        "entry": entry,
        "wanted": list(passed.mismatch.wanted),
        "found": None if matching.is_about_patient(entry) else found,
        "why": str(passed.mismatch),
    }
