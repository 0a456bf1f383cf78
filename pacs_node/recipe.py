"""What becomes of a source's attributes in an object derived from it: the recipe as data.

`pacs_node.derive` follows these tables and `pacs_node.soundness` holds any (source, derived) pair against
them. An attribute that stands in none of them travels with the result unchanged.
"""

from __future__ import annotations

CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

ENHANCEABLE_SOP_CLASSES = {
    CR_IMAGE: "Computed Radiography Image",
    DX_FOR_PRESENTATION: "Digital X-Ray Image, for presentation",
    SECONDARY_CAPTURE: "Secondary Capture Image",
}
"""SOP classes that a result can be derived from; the result is of the same class."""

SPACINGS = ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing")
"""Spacings of the matrix: divided by the true ratio."""

SHAPES = tuple(
    keyword
    for shape in ("Shutter", "Collimator")
    for keyword in (
        f"{shape}LeftVerticalEdge", f"{shape}RightVerticalEdge", f"{shape}UpperHorizontalEdge",
        f"{shape}LowerHorizontalEdge", f"CenterOfCircular{shape}", f"RadiusOfCircular{shape}",
        f"VerticesOfThePolygonal{shape}",
    )
)  # fmt: skip
"""Coordinates in pixels of the matrix: scaled."""

NAMED = ("SOPClassUID", "StudyInstanceUID", "PresentationIntentType", "ConversionType")
"""What the result must have, and has from its source where that states it."""

GONE = {
    "signatures": (
        "DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence",
    ),
    "thumbnail-and-statistics": (
        "IconImageSequence", "HistogramSequence", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
        "SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane",
    ),
    "frame-of-reference": ("FrameOfReferenceUID", "PositionReferenceIndicator"),
    "dose-counted-elsewhere": (
        "ImageAndFluoroscopyAreaDoseProduct", "EntranceDose", "EntranceDoseInmGy", "OrganDose",
    ),
    "whereabouts": (
        "RetrieveAETitle", "RetrieveURL", "InstanceAvailability", "StorageMediaFileSetID",
        "StorageMediaFileSetUID", "PixelDataProviderURL", "QueryRetrieveLevel",
    ),
    "authorisation": (
        "SOPInstanceStatus", "SOPAuthorizationDateTime", "SOPAuthorizationComment",
        "AuthorizationEquipmentCertificationNumber",
    ),
    "other-encodings-of-pixels": (
        "FloatPixelData", "DoubleFloatPixelData", "LengthToEnd", "DataSetTrailingPadding",
        "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "NumberOfFrames",
    ),
    "codes-of-the-source-series": ("SeriesDescriptionCodeSequence",),
}  # fmt: skip
"""What holds for the source alone, by kind: dropped."""

DOSE = GONE["dose-counted-elsewhere"]

EQUIPMENT = (
    "Manufacturer", "StationName", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions",
    "InstitutionName", "InstitutionalDepartmentName", "DeviceUID", "UDISequence", "SpatialResolution",
    "DateOfLastCalibration", "TimeOfLastCalibration",
)  # fmt: skip
"""Which device it was: the source's goes into a Contributing Equipment item."""
EQUIPMENT_LEFT_AT_TOP = ("InstitutionName", "InstitutionalDepartmentName")
OTHER_EQUIPMENT = ("ManufacturerDeviceClassUID", "GantryID", "DeviceLabel", "DeviceDescription")

WRITTEN = (
    "ImageType", "InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "SOPInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime", "ContentDate",
    "ContentTime", "TimezoneOffsetFromUTC", "DerivationDescription", "DerivationCodeSequence",
    "SourceImageSequence", "RelatedSeriesSequence", "CodingSchemeIdentificationSequence",
    "ContributingEquipmentSequence", "ContentQualification", "ImageComments", "SyntheticData",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "SmallestImagePixelValue", "LargestImagePixelValue", "PixelData",
    *(keyword for keyword in EQUIPMENT if keyword not in EQUIPMENT_LEFT_AT_TOP), *OTHER_EQUIPMENT,
)  # fmt: skip
"""What we write or take away ourselves."""

_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber", "SeriesNumber", "InstanceNumber", "Manufacturer",
)  # fmt: skip
TYPE_2 = {
    CR_IMAGE: (*_TYPE_2, "BodyPartExamined", "ViewPosition", "PatientOrientation"),
    DX_FOR_PRESENTATION: (*_TYPE_2, "AcquisitionContextSequence", "DetectorType", "PositionerType"),
    SECONDARY_CAPTURE: (*_TYPE_2, "PatientOrientation"),
}  # fmt: skip
"""What must be there in a result of each class (types 2 and 2C of PS3.3); empty says that it is not known.

DX wants AnatomicRegionSequence too, but lets it be empty only where nothing else tells the body part."""
