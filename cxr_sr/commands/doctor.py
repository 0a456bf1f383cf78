"""`cxr-sr doctor`: is everything in order?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from cxr_sr.failure import Failure
from cxr_sr.options import config_option, json_option, print_json


@click.command(epilog="Example: cxr-sr doctor --config cxr-sr.toml")
@json_option
@config_option
def doctor(as_json: bool, config: Path | None) -> None:
    """Check configuration, storage, database, model, device, ports, certificates, destinations and archives.

    Destinations and archives with C-ECHO, through TLS where it is configured. One line each; the exit status
    is 1 when one fails. A certificate that expires within 30 days is a warning.
    """
    from cxr_sr.doctor import examine

    found = []
    for check in examine(config):
        found.append(check)
        if not as_json:
            word = ("warn" if check.warn else "ok") if check.ok else "FAIL"
            click.echo(f"{word:4}  {check.name}: {check.message}")
    failed = [check.name for check in found if not check.ok]
    if as_json:
        print_json({"ok": not failed, "checks": [dataclasses.asdict(check) for check in found]})
    if failed:
        raise Failure(f"not fit to run: {', '.join(failed)}")
