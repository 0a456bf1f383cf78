"""How a command says that its work failed."""

from __future__ import annotations

import click


class Failure(click.ClickException):
    """The work failed; the message says what, where and what to do. Exit status 1."""

    exit_code = 1
