"""`cxr-sr rules`: what the configured rules say of a file, before it is sent."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.failure import Failure
from cxr_sr.options import config_option, json_option, load, print_json


@click.group(epilog="Example: cxr-sr rules test chest.dcm --calling-ae-title ER_PORTABLE")
def rules() -> None:
    """Try the rules of the configuration."""


@rules.command(epilog="Example: cxr-sr rules test *.dcm --calling-ae-title ER_PORTABLE --address 192.0.2.7")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--calling-ae-title", default="", help="AE title of the supposed sender.")
@click.option(
    "--called-ae-title", default="", help="AE title of ours that it is sent to, if not dicom.ae_title."
)
@click.option("--address", default="127.0.0.1", show_default=True, help="IP address of the supposed sender.")
@click.option(
    "--origin",
    type=click.Choice(["dimse", "stow", "fetch", "upload"]),
    default="dimse",
    show_default=True,
    help="Door that it comes through.",
)
@json_option
@config_option
def test(
    files: tuple[Path, ...],
    calling_ae_title: str,
    called_ae_title: str,
    address: str,
    origin: str,
    as_json: bool,
    config: Path | None,
) -> None:
    """Say of each file which rule decides what becomes of it and why, and of each rule before it which entry
    did not match. Nothing is stored or sent."""
    from cxr_sr.rulebook import verdicts
    from pacs_node.rules import Asked

    settings = load(config)
    asked = Asked(
        kind=origin,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title or settings.dicom.ae_title,
        address=address,
    )
    found = []
    for verdict in verdicts(files, asked, settings):
        found.append(verdict)
        if not as_json:
            for line in verdict.lines():
                click.echo(line)
    if as_json:
        print_json({"files": [verdict.record() for verdict in found]})
    failed = sum(verdict.action == "fail" for verdict in found)
    if failed:
        raise Failure(f"{failed} of {len(found)} files cannot be worked with")
