"""`cxr-sr serve`: the node, or one role of it."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.options import config_option, load
from cxr_sr.roles import ROLES


@click.command(epilog="Example: cxr-sr serve --config cxr-sr.toml --role receiver --role worker")
@config_option
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(list(ROLES)),
    help="Run only this role (may be repeated).",
)
@click.option("--lifeline", type=int, hidden=True)
def serve(config: Path | None, roles: tuple[str, ...], lifeline: int | None) -> None:
    """Run the node: receive, enhance, deliver, and serve its pages.

    Without --role all roles run under one supervisor that restarts one that dies. SIGTERM and Ctrl-C drain:
    work in hand is finished or handed back, then the command ends with 0.
    """
    from cxr_sr.rulebook import check_rules
    from cxr_sr.unbuilt import refuse

    settings = load(config)
    refuse(settings)
    check_rules(settings)
    if lifeline is not None:
        from cxr_sr.roles import run_role

        run_role(roles[0], settings, lifeline=lifeline)
        return
    from cxr_sr import supervisor

    if len(roles) == 1:
        from cxr_sr.roles import run_role

        supervisor.welcome(supervisor.prepare(settings))
        run_role(roles[0], settings)
        return
    supervisor.serve_roles(settings, config, roles or tuple(ROLES))
