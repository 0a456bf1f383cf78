"""The DICOM Conformance Statement, written from the very tables that the code negotiates with.

Its structure is the template of PS3.2 Annex N: chapters 1 to 8 and annexes A to E. Sections about services
that this product does not have are kept, and say so.
"""

from __future__ import annotations

from cxr_sr.conformance.document import Document


def statement() -> Document:
    """The statement for the decoders that are installed here; what is configurable stands as by default."""
    from cxr_sr.conformance import annexes, configuration, introduction, network, overview, security, services

    doc = Document()
    for part in (overview, introduction, services, configuration, network, security, annexes):
        part.write(doc)
    return doc
