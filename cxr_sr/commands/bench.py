"""`cxr-sr bench`: the project's own figures."""

from __future__ import annotations

import dataclasses

import click

from cxr_sr.options import json_option, print_json

SUITES = ("enhance", "ingest", "queue", "end-to-end")


@click.command(epilog="Example: cxr-sr bench --suite queue --json")
@json_option
@click.option(
    "--suite", "suites", multiple=True, type=click.Choice(SUITES), help="Only this one (may be repeated)."
)
def bench(suites: tuple[str, ...], as_json: bool) -> None:
    """Run the project's own benchmarks, each figure beside what the same machine allows at best."""
    from config.log import configure
    from config.settings import LogSettings
    from cxr_sr.bench import SUITES as TABLE

    configure(LogSettings(level="error"), "bench")

    figures = []
    for suite in suites or SUITES:
        for figure in TABLE[suite]():
            figures.append(figure)
            if not as_json:
                click.echo(f"{suite}: {figure.what}: {figure.value:.1f} {figure.unit}")
                click.echo(f"    {figure.ratio:.2f} of {figure.against} ({figure.reference:.1f})")
    if as_json:
        print_json({"figures": [{**dataclasses.asdict(f), "ratio": f.ratio} for f in figures]})
