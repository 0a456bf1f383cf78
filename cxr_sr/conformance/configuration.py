"""Chapter 6: what can be configured, from the table of settings."""

from __future__ import annotations

from config.reference import NONE, REQUIRED, reference
from cxr_sr.conformance.document import Document
from cxr_sr.conformance.words import code

DIMSE = (
    "ae_title",
    "host",
    "port",
    "calling_ae_title",
    "tls",
    "retrieve",
    "storage_commitment",
    "commitment",
)
WEB = ("url", "auth", "username", "secret_file", "token_url", "scope")


def write(doc: Document) -> None:
    """Chapter 6."""
    doc.heading(1, "Configuration")
    doc.text(
        """One TOML file, each value overridable by an environment variable (`CXR_SR_SECTION__KEY`). A
        wrong key or value stops the start with the key and what was expected. Changes take effect at
        the next start, but for certificates, which are read again when their files change. All settings
        stand in `docs/settings.md`; those that concern DICOM are:"""
    )
    doc.heading(2, "General Configuration Parameters")
    _table(doc, "Application entity", "dicom.")
    doc.heading(2, "Configuration of DIMSE Services")
    doc.heading(3, "Destinations")
    _table(doc, "Destinations by DIMSE", "destinations[].", without=WEB)
    doc.heading(3, "Archives")
    _table(doc, "Archives by DIMSE", "archives[].", without=WEB)
    _table(doc, "Working through archives", "fetch.")
    doc.heading(3, "Rules")
    _table(doc, "What is enhanced and where it goes", "rules[].")
    doc.heading(2, "Configuration of DICOM Web Services")
    _table(doc, "Web server", "web.")
    _table(doc, "Destinations by DICOMweb", "destinations[].", only=WEB)
    _table(doc, "Archives by DICOMweb", "archives[].", only=WEB)
    doc.heading(2, "Configuration of Media Storage Service")
    doc.text("None.")
    doc.heading(2, "Configuration of Real-Time Video Service")
    doc.text("None.")
    doc.heading(2, "Configuration of Audit Trail")
    _table(doc, "Sending of audit messages", "audit.")


def _table(
    doc: Document, caption: str, prefix: str, *, only: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> None:
    rows = []
    for entry in reference():
        key = entry.key.removeprefix(prefix)
        if key == entry.key or (only and key not in only) or key in without:
            continue
        default = entry.default if entry.default in {NONE, REQUIRED} else code(entry.default)
        rows.append((code(entry.key), default, entry.description))
    doc.table(caption, ("key", "default", "meaning"), rows)
