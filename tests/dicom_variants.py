"""Data sets that real devices could have sent, made from our own sample radiographs or from numbers.

Each function returns a new data set with pixels in Explicit VR Little Endian; :func:`encoded` gives it
another transfer syntax, :func:`written` writes it to a file. The objects pass `dciodvfy` without an error,
so that an error in something derived from them is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid

from pacs_node import codecs

SAMPLES = Path(__file__).resolve().parent.parent / "cxr_sr" / "samples"

CR = "1.2.840.10008.5.1.4.1.1.1"
DX_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
_PALETTE = [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
SC = "1.2.840.10008.5.1.4.1.1.7"


def chest_values(
    bits: int = 12, rows: int = 96, columns: int = 80, *, signed: bool = False
) -> npt.NDArray[Any]:
    """Stored values with the structure of a chest radiograph, using the whole range of `bits`: Int[rows,
    columns]."""
    source = dcmread(SAMPLES / "chest_pa_fuji_440.dcm").pixel_array.astype(np.float64)
    step_rows, step_columns = source.shape[0] // rows, source.shape[1] // columns
    picked = source[:: max(1, step_rows), :: max(1, step_columns)][:rows, :columns]
    picked = (picked - picked.min()) / np.ptp(picked)
    top = (1 << bits) - 1
    values = np.rint(picked * top)
    values.flat[0], values.flat[-1] = 0, top
    if signed:
        values -= 1 << (bits - 1)
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def cr(
    values: npt.NDArray[Any] | None = None,
    *,
    bits: int = 12,
    photometric: str = "MONOCHROME2",
    **attributes: Any,
) -> Dataset:
    """A complete CR chest image, PA, with an accession number and equipment; `attributes` by keyword win."""
    values = chest_values(bits) if values is None else values
    ds = _common(CR, "CR")
    ds.PlateType = "ST"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    ds.PatientOrientation = ["L", "F"]
    ds.AcquisitionDate, ds.AcquisitionTime = "20240501", "101112"
    _pixels(ds, values, bits, photometric)
    ds.ImagerPixelSpacing = ["0.2", "0.2"]
    middle = float(values.min()) / 2 + float(values.max()) / 2
    ds.WindowCenter, ds.WindowWidth = str(round(middle)), str(max(1, int(values.max()) - int(values.min())))
    return _with(ds, attributes)


def dx(
    values: npt.NDArray[Any] | None = None,
    *,
    bits: int = 14,
    photometric: str = "MONOCHROME2",
    for_processing: bool = False,
    **attributes: Any,
) -> Dataset:
    """A complete DX chest image, PA, for presentation or for processing; `attributes` by keyword win."""
    values = chest_values(bits) if values is None else values
    ds = _common(DX_PROCESSING if for_processing else DX_PRESENTATION, "DX")
    intent = "FOR PROCESSING" if for_processing else "FOR PRESENTATION"
    ds.PresentationIntentType = intent
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.SeriesDate, ds.SeriesTime = "20240501", "101112"
    ds.ContentDate, ds.ContentTime = "20240501", "101113"
    ds.AcquisitionDate, ds.AcquisitionTime = "20240501", "101112"
    ds.BodyPartExamined = "CHEST"
    ds.AnatomicRegionSequence = Sequence([_code("51185008", "SCT", "Thorax")])
    ds.ImageLaterality = "U"
    ds.ViewPosition = "PA"
    view = _code("272479007", "SCT", "postero-anterior")
    ds.ViewCodeSequence = Sequence([view])
    ds.PatientOrientation = ["L", "F"]
    ds.KVP = "120"
    ds.Exposure, ds.ExposureTime = 2, 8
    ds.ExposureIndex = "250"
    ds.DetectorType = "SCINTILLATOR"
    ds.DetectorConfiguration = "AREA"
    ds.DetectorID = "DET-1"
    ds.PositionerType = ""
    ds.FieldOfViewShape = "RECTANGLE"
    ds.ImagerPixelSpacing = ["0.148", "0.148"]
    ds.DetectorElementSpacing = ["0.148", "0.148"]
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    ds.AcquisitionContextSequence = Sequence()
    _pixels(ds, values, bits, photometric)
    if not for_processing:
        low, high = int(values.min()), int(values.max())
        ds.WindowCenter, ds.WindowWidth = str((low + high + 1) // 2), str(max(1, high - low))
    return _with(ds, attributes)


def secondary_capture(values: npt.NDArray[Any] | None = None, *, bits: int = 8, **attributes: Any) -> Dataset:
    """A Secondary Capture image as a digitiser writes it; `attributes` by keyword win."""
    values = chest_values(bits) if values is None else values
    ds = _common(SC, "OT")
    ds.ConversionType = "DF"
    ds.BodyPartExamined = "CHEST"
    ds.PatientOrientation = ""
    ds.NominalScannedPixelSpacing = ["0.175", "0.175"]
    _pixels(ds, values, bits, "MONOCHROME2")
    return _with(ds, attributes)


def in_colour(
    colours: npt.NDArray[Any], photometric: str = "RGB", *, bits: int = 8, planar: int = 0
) -> Dataset:
    """A Secondary Capture image of three samples a pixel: UInt[H, W, 3]."""
    ds = secondary_capture(colours[..., 0], bits=bits)
    ds.Modality = "CR"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, photometric, planar
    samples = colours.transpose(2, 0, 1) if planar else colours
    if photometric == "YBR_FULL_422":
        pairs = colours.reshape(colours.shape[0], -1, 6)
        samples = pairs[..., [0, 3, 1, 2]]
    data = np.ascontiguousarray(samples).tobytes()
    ds.add_new("PixelData", "OW" if ds.BitsAllocated == 16 else "OB", data + b"\0" * (len(data) % 2))
    return ds


def with_palette(indices: npt.NDArray[Any], *colours: npt.NDArray[Any], entry_bits: int) -> Dataset:
    """A Secondary Capture image of palette indices: UInt8[H, W], with the levels of red, green and blue."""
    ds = secondary_capture(indices)
    ds.Modality = "CR"
    ds.PhotometricInterpretation = "PALETTE COLOR"
    for colour, levels in zip(("Red", "Green", "Blue"), colours, strict=True):
        if entry_bits == 16 and levels.dtype == np.dtype("u1"):
            levels = levels.astype("u2") * 257
        descriptor = [len(levels) & 0xFFFF, 0, entry_bits]
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", descriptor)
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", levels.tobytes())
    return ds


def with_shutter(ds: Dataset) -> Dataset:
    """A rectangular shutter and a circular collimator within the matrix, counted from 1."""
    rows, columns = ds.Rows, ds.Columns
    ds.ShutterShape = "RECTANGULAR"
    ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 5, columns - 4
    ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 7, rows - 6
    ds.ShutterPresentationValue = 0
    ds.CollimatorShape = "CIRCULAR"
    ds.CenterOfCircularCollimator = [rows // 2, columns // 2]
    ds.RadiusOfCircularCollimator = min(rows, columns) // 2
    return ds


def with_overlay(ds: Dataset) -> Dataset:
    """An overlay plane in an element of its own."""
    ds.add_new(0x60000010, "US", ds.Rows)
    ds.add_new(0x60000011, "US", ds.Columns)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60000102, "US", 0)
    length = (ds.Rows * ds.Columns + 7) // 8
    ds.add_new(0x60003000, "OW", b"\xaa" * (length + length % 2))
    return ds


def with_overlay_in_pixels(ds: Dataset) -> Dataset:
    """A checkered overlay in the bit above the stored ones, as old devices write it."""
    bit = ds.HighBit + 1
    values = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).copy()
    checkered = (np.indices(values.shape).sum(0) % 2).astype("u2")
    ds.PixelData = (values | (checkered << bit)).astype("<u2").tobytes()
    ds.add_new(0x60000010, "US", ds.Rows)
    ds.add_new(0x60000011, "US", ds.Columns)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", bit)
    return ds


def with_private_block(ds: Dataset) -> Dataset:
    """A vendor's block that describes the matrix."""
    block = ds.private_block(0x0029, "VENDOR MATRIX", create=True)
    block.add_new(0x01, "US", [ds.Rows, ds.Columns])
    block.add_new(0x02, "LO", "vendor text")
    return ds


def in_character_set(charset: str, text: bytes, path: Path) -> Path:
    """A CR image at `path` whose texts are these bytes, under a character set that they may not keep."""
    texts = {"PatientName": b"Q", "InstitutionName": b"V", "Manufacturer": b"Y", "SeriesDescription": b"W"}
    length = len(text) + len(text) % 2
    ds = cr(ImageComments="Z" * length)
    for keyword, letter in texts.items():
        setattr(ds, keyword, (letter * length).decode())
    content = written(ds, path).read_bytes()
    for letter in (*texts.values(), b"Z"):
        content = content.replace(letter * length, text.ljust(length))
    stated = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    value = charset.encode().ljust(len(charset) + len(charset) % 2)
    assert stated in content
    element = b"\x08\x00\x05\x00CS" + len(value).to_bytes(2, "little") + value if charset else b""
    path.write_bytes(content.replace(stated, element))
    return path


def encoded(ds: Dataset, transfer_syntax: str, *, quality: int = 95) -> Dataset:
    """The same object in another transfer syntax (pixels of at most 16 bits, one frame)."""
    new = dcmread(_memory(ds))
    syntax = UID(transfer_syntax)
    values = stored_values(new) if new.PhotometricInterpretation.startswith("MONO") else np.zeros((1, 1))
    if transfer_syntax == codecs.EXPLICIT_VR_BIG_ENDIAN:
        data = np.frombuffer(new.PixelData, "<u2" if new.BitsAllocated == 16 else "u1")
        for keyword in _PALETTE:
            if keyword in new:
                new[keyword].value = np.frombuffer(new[keyword].value, "u2").byteswap().tobytes()
        new.PixelData = data.astype(">u2").tobytes() if new.BitsAllocated == 16 else data.tobytes()
        new["PixelData"].VR = "OW" if new.BitsAllocated == 16 else "OB"
    elif codecs.CODECS[transfer_syntax].encapsulated:
        stream = _stream(new, values, transfer_syntax, quality)
        if stream is None:
            new.compress(syntax, generate_instance_uid=False)
        else:
            new.PixelData = encapsulate([stream])
            new["PixelData"].is_undefined_length = True
            new["PixelData"].VR = "OB"
        if codecs.CODECS[transfer_syntax].lossy:
            new.LossyImageCompression = "01"
            new.LossyImageCompressionRatio = "5"
            new.LossyImageCompressionMethod = codecs.CODECS[transfer_syntax].method
    new.file_meta.TransferSyntaxUID = syntax
    return new


def stored_values(ds: Dataset) -> npt.NDArray[Any]:
    """The stored values of an uncompressed little endian object, with sign, by pydicom."""
    values: npt.NDArray[Any] = ds.pixel_array
    return values


def written(ds: Dataset, path: Path) -> Path:
    """`ds` as a DICOM file at `path`, in the transfer syntax that its file meta information names."""
    syntax = ds.file_meta.TransferSyntaxUID
    dcmwrite(
        path,
        ds,
        enforce_file_format=True,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    return path


def _stream(ds: Dataset, values: npt.NDArray[Any], transfer_syntax: str, quality: int) -> bytes | None:
    """The code stream where imagecodecs makes it, None where pydicom's own plug-ins do."""
    unsigned = values.view(f"u{values.dtype.itemsize}") & ((1 << ds.BitsStored) - 1)
    unsigned = unsigned.astype(values.dtype.str.replace("i", "u"))
    if transfer_syntax == codecs.JPEG_BASELINE:
        return bytes(imagecodecs.jpeg8_encode(unsigned.astype("u1"), level=quality))
    if transfer_syntax == codecs.JPEG_EXTENDED:
        bits = 8 if ds.BitsStored <= 8 else 12
        return bytes(imagecodecs.jpeg8_encode(unsigned, level=quality, bitspersample=bits))
    if transfer_syntax in (codecs.JPEG_LOSSLESS, codecs.JPEG_LOSSLESS_SV1):
        return bytes(imagecodecs.ljpeg_encode(unsigned, bitspersample=max(ds.BitsStored, 2)))
    if transfer_syntax == codecs.JPEG_LS_NEAR_LOSSLESS:
        return bytes(imagecodecs.jpegls_encode(unsigned, level=1))
    if transfer_syntax == codecs.JPEG_2000:
        options = {"level": 60, "codecformat": "J2K", "reversible": False, "bitspersample": ds.BitsStored}
        return bytes(imagecodecs.jpeg2k_encode(unsigned, **options))
    if transfer_syntax in (codecs.HTJ2K_LOSSLESS, codecs.HTJ2K_LOSSLESS_RPCL, codecs.HTJ2K):
        return bytes(imagecodecs.htj2k_encode(unsigned))
    return None


def _common(sop_class: str, modality: str) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid()
    ds.StudyDate, ds.StudyTime = "20240501", "100000"
    ds.AccessionNumber = "ACC-77"
    ds.Modality = modality
    ds.Manufacturer = "Acme X-Ray"
    ds.InstitutionName = "St. Elsewhere"
    ds.ReferringPhysicianName = "Ref^Erring"
    ds.StationName = "ROOM3"
    ds.StudyDescription = "Thorax"
    ds.SeriesDescription = "Chest PA"
    ds.ManufacturerModelName = "Ray 9"
    ds.PatientName = "Müller^Jörg"
    ds.PatientID = "PID-1"
    ds.PatientBirthDate = "19600203"
    ds.PatientSex = "M"
    ds.DeviceSerialNumber = "SN-42"
    ds.SoftwareVersions = "7.1"
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.StudyID = "S1"
    ds.SeriesNumber = 3
    ds.InstanceNumber = 1
    return ds


def _pixels(ds: Dataset, values: npt.NDArray[Any], bits: int, photometric: str) -> None:
    allocated = values.dtype.itemsize * 8
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    ds.add_new("PixelData", "OW" if allocated == 16 else "OB", data + b"\0" * (len(data) % 2))


def _with(ds: Dataset, attributes: dict[str, Any]) -> Dataset:
    for keyword, value in attributes.items():
        if value is None:
            if keyword in ds:
                del ds[keyword]
        else:
            setattr(ds, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(codecs.EXPLICIT_VR_LITTLE_ENDIAN)
    ds.file_meta = meta
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _memory(ds: Dataset) -> Any:
    from io import BytesIO

    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return buffer
