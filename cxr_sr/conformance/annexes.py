"""Annexes A to E: objects that are made, security details, mapping of attributes, codes."""

from __future__ import annotations

from cxr_sr.conformance.document import Document
from cxr_sr.conformance.words import attribute, code, sop_class
from pacs_node import identity, provenance, recipe, rejection
from pacs_node.consignment import KEY_OBJECT_SELECTION

HOW_WRITTEN = {
    "ImageType": r"`DERIVED\SECONDARY\\AI_SR`: value 3 is empty, value 4 is our own",
    "InstanceCreationDate": "when it was made",
    "InstanceCreationTime": "when it was made",
    "InstanceCreatorUID": "of this installation, below our UID root",
    "SOPInstanceUID": "new, a function of source, model, scale and settings",
    "SeriesInstanceUID": "new; one for each source series, model, version and scale",
    "SeriesNumber": "a function of the source's, sorted after it",
    "SeriesDescription": "says AI, factor and research; the source's follows as far as it fits",
    "SeriesDate": "when it was made",
    "SeriesTime": "when it was made",
    "ContentDate": "when it was made",
    "ContentTime": "when it was made",
    "TimezoneOffsetFromUTC": "the source's, with our times in it; left out where it cannot be read",
    "DerivationDescription": "method, factor, model, version, digest of the weights, agreement with the "
    "source, what was left out",
    "DerivationCodeSequence": "appended: see the codes",
    "SourceImageSequence": "the source; Spatial Locations Preserved `NO`",
    "RelatedSeriesSequence": "appended: the series of the source",
    "CodingSchemeIdentificationSequence": "appended: our private coding scheme",
    "ContributingEquipmentSequence": "appended: the source's equipment; ours, its Device UID a function of "
    "model, version and digest",
    "ContentQualification": "`RESEARCH`",
    "ImageComments": "the same warning in words; the source's follow",
    "SyntheticData": "`YES` where `enhancer.synthetic_data` is on; else the source's",
    "LossyImageCompression": "the source's; `01` where its transfer syntax proves it",
    "LossyImageCompressionRatio": "the source's; the ratio of its transfer syntax is appended",
    "LossyImageCompressionMethod": "the source's; the method of its transfer syntax is appended",
    "Rows": "times the factor",
    "Columns": "times the factor",
    "SamplesPerPixel": "1",
    "PhotometricInterpretation": "the source's; of grey written in colour `MONOCHROME2`",
    "BitsAllocated": "the source's",
    "BitsStored": "the source's",
    "HighBit": "the source's",
    "PixelRepresentation": "the source's",
    "SmallestImagePixelValue": "computed anew where the source states it",
    "LargestImagePixelValue": "computed anew where the source states it",
    "PixelData": "enlarged; clipped to the range that Bits Stored gives; padding stays padding",
    "Manufacturer": "ours",
    "StationName": "our AE title",
    "ManufacturerModelName": "ours",
    "DeviceSerialNumber": "of this installation",
    "SoftwareVersions": "of program and model, and the digest of the weights",
    "DeviceUID": "left out here; in Contributing Equipment",
    "UDISequence": "left out here; in Contributing Equipment",
    "SpatialResolution": "left out here; in Contributing Equipment",
    "DateOfLastCalibration": "left out here; in Contributing Equipment",
    "TimeOfLastCalibration": "left out here; in Contributing Equipment",
    "ManufacturerDeviceClassUID": "left out",
    "GantryID": "left out",
    "DeviceLabel": "left out",
    "DeviceDescription": "left out",
}
"""What becomes of each attribute of `pacs_node.recipe.WRITTEN`; a test compares the two."""


def write(doc: Document) -> None:
    """The annexes."""
    doc.begin_annexes()
    doc.heading(1, "Information Object Definitions")
    _results(doc)
    _labelled(doc)
    _secondary(doc)
    _notes(doc)
    doc.heading(1, "Structured Report Content Encoding")
    doc.text(
        """Rejection notes are Key Object Selection documents after TID 2010: the title says why, the
        observer context names the device, Key Object Description gives the reason in words, and IMAGE
        items refer to what is withdrawn."""
    )
    doc.heading(1, "Security Details")
    doc.text("See the chapter on security.")
    doc.heading(1, "Mapping of Attributes")
    doc.text(
        """Patient, study and order of a result are those of its source. A picture that is uploaded has the
        demographics of the form, or, once a person has picked its study from an archive, what the archive
        answered to C-FIND or QIDO-RS. No worklist and no other protocol adds attributes."""
    )
    doc.heading(1, "Code Set Usage")
    doc.table(
        "Codes that are written",
        ("where", "value", "scheme", "meaning"),
        [
            (where, value, scheme, meaning)
            for where, (value, meaning), scheme in (*provenance.CODES, *rejection.CODES)
        ],
    )
    doc.text(
        f"""`{identity.PRIVATE_CODING_SCHEME}` is the private coding scheme of this product, identified in
        Coding Scheme Identification Sequence. Of codes that are read, those of anatomic region and view
        decide by which rule an image goes."""
    )
    doc.table(
        "UIDs",
        ("what", "UID"),
        [
            ("Root of what this program names, on whatever machine", code(identity.UID_ROOT)),
            ("Implementation class", code(identity.IMPLEMENTATION_CLASS_UID)),
            ("Devices: one for each model, version and digest", code(f"{identity.DEVICE_ARC}.*")),
            ("Instance creators: one for each installation", code(f"{identity.CREATOR_ARC}.*")),
            ("Instances and series", "`2.25.` and a UUID as a decimal number (PS3.5 B.2)"),
        ],
    )


def _results(doc: Document) -> None:
    doc.heading(2, "Results")
    doc.table(
        "Classes of results: that of the source",
        ("SOP class", "UID"),
        [sop_class(uid) for uid in recipe.ENHANCEABLE_SOP_CLASSES],
    )
    doc.text(
        """What no table names travels unchanged from the source, as the bytes that it was, empty
        attributes of type 2 are added where the source lacks them, and private attributes are left out."""
    )
    doc.table(
        "Attributes that are written",
        ("attribute", "tag", "value"),
        [(*attribute(keyword), HOW_WRITTEN[keyword]) for keyword in recipe.WRITTEN],
    )
    doc.table(
        "Attributes that are scaled",
        ("attribute", "tag", "how"),
        [(*attribute(name), "divided by the true ratio; zero or less: left out") for name in recipe.SPACINGS]
        + [(*attribute(name), "coordinates of the matrix, times the factor") for name in recipe.SHAPES],
    )
    doc.text("Overlays are enlarged with the image; one that cannot be is left out, and that is said.")
    doc.table(
        "Attributes that are left out",
        ("attribute", "tag", "because"),
        [
            (*attribute(keyword), why.replace("-", " "))
            for why, keywords in recipe.GONE.items()
            for keyword in keywords
        ],
    )


def _labelled(doc: Document) -> None:
    doc.heading(2, "Results with a Label")
    doc.text(
        """Where `destinations.label` is `overlay` or `burned`, the destination gets a copy with UIDs of
        its own and the warning in an overlay plane (60xx) or in the pixels, then with Burned In
        Annotation `YES`."""
    )


def _secondary(doc: Document) -> None:
    doc.heading(2, "Uploaded Pictures")
    doc.text(
        """A picture that somebody uploads (PNG, JPEG, TIFF) becomes a Secondary Capture Image with
        Conversion Type `WSD` and the demographics of the form, and its result one derived from it. The
        result is sent to an archive only after its patient and study were picked from that archive; it
        then has their attributes as the archive answered."""
    )


def _notes(doc: Document) -> None:
    doc.heading(2, "Rejection Notes")
    doc.table("Class", ("SOP class", "UID"), [sop_class(KEY_OBJECT_SELECTION)])
    doc.table(
        "Document titles",
        ("job", "title"),
        [(reason, f"{value} DCM {meaning}") for reason, (value, meaning) in rejection.TITLES.items()],
    )
