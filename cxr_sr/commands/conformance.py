"""`cxr-sr conformance`: what this node negotiates, in the words of the standard."""

from __future__ import annotations

import click


@click.command(epilog="Example: cxr-sr conformance > conformance.md")
def conformance() -> None:
    """Print the DICOM Conformance Statement (Markdown), in the structure of PS3.2 Annex N.

    It is generated from the tables that the code negotiates with, for the decoders installed here.
    """
    from cxr_sr.conformance import statement

    click.echo(statement().markdown(), nl=False)
