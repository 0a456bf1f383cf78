"""`cxr-sr bench`: the project's own figures."""

from __future__ import annotations

import click

from cxr_sr.options import json_option


@click.command(epilog="Example: cxr-sr bench --suite queue --json")
@json_option
@click.option(
    "--suite", "suites", multiple=True, type=click.Choice(("enhance", "queue")), help="May be repeated."
)
def bench(suites: tuple[str, ...], as_json: bool) -> None:
    """Run the project's own benchmarks."""
    raise NotImplementedError
