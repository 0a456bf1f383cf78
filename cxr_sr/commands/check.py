"""`cxr-sr check`: is this object soundly derived from that one?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_sr.failure import Failure

if TYPE_CHECKING:
    from pacs_node.examine import Examiner
    from pacs_node.soundness import Finding, Side

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog="Example: cxr-sr check chest.dcm enhanced.dcm")
@click.argument("source", metavar="SOURCE", type=_FILE)
@click.argument("derived", metavar="DERIVED", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON, with the rules that were applied.")
def check(source: Path, derived: Path, as_json: bool) -> None:
    """Hold a derived DICOM object against its source, rule by rule.

    Prints one line for each finding: the rule, what is wrong, what the rule asks and where DICOM says so. No
    line and exit status 0 mean that DERIVED is sound. It also finds what validators miss: stale extremes,
    unscaled shutters, lost padding, a changed name.
    """
    from pacs_node import soundness
    from pacs_node.examine import Examiner, Limits

    # A result may be larger than what is received.
    limits = Limits(timeout_seconds=300, memory_bytes=16 << 30, max_pixels=1 << 28)
    with Examiner(limits) as examiner:
        pair = soundness.Pair(_side(examiner, source), _side(examiner, derived))
    findings = soundness.check(pair)
    if as_json:
        click.echo(json.dumps(_document(findings), indent=2))
    else:
        for finding in findings:
            click.echo(str(finding))
    if findings:
        count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        raise Failure(f"{derived} is not soundly derived from {source}: {count}")
    click.echo(f"cxr-sr: {derived} is sound by {len(soundness.RULES)} rules", err=True)


def _side(examiner: Examiner, path: Path) -> Side:
    from pacs_node.errors import Refused
    from pacs_node.soundness import Side

    try:
        return Side.of_examination(examiner.examine(path))
    except Refused as refused:
        raise Failure(f"{path}: {refused.refusal.sentence}") from refused


def _document(findings: list[Finding]) -> dict[str, Any]:
    from pacs_node.soundness import RULES

    return {
        "sound": not findings,
        "findings": [
            {
                "rule": finding.rule.name,
                "section": finding.rule.section,
                "asks": finding.rule.sentence,
                "found": finding.detail,
            }
            for finding in findings
        ],
        "rules": [rule.name for rule in RULES],
    }
