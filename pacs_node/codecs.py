"""The one table of transfer syntaxes: which exist for radiographs, and which the decoders present here can
read.

The receiver negotiates from :func:`decodable`, the decoder chooses from the same rows, and the conformance
statement prints them. Importing this module imports no decoder: it only asks whether one is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

PYDICOM = "pydicom"
"""Names the decoders that need no package beside pydicom and numpy."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One transfer syntax and who can read it.

    decoders: import names in order of preference; the first one installed is used, the next if it fails
    cleanly. lossy: the encoding always loses something; may_be_lossy: it can (the attributes of the object
    tell). method: defined term of LossyImageCompressionMethod for this encoding, or empty.
    """

    uid: str
    name: str
    decoders: tuple[str, ...]
    encapsulated: bool = True
    lossy: bool = False
    may_be_lossy: bool = False
    method: str = ""

    @property
    def installed(self) -> tuple[str, ...]:
        """Those of `decoders` that are installed, in order of preference."""
        return tuple(name for name in self.decoders if _is_installed(name))


IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

# gdcm refuses 12-bit samples in JPEG Extended, hence imagecodecs first for both lossy JPEGs.
_TABLE = (
    Codec(EXPLICIT_VR_LITTLE_ENDIAN, "Explicit VR Little Endian", (PYDICOM,), encapsulated=False),
    Codec(IMPLICIT_VR_LITTLE_ENDIAN, "Implicit VR Little Endian", (PYDICOM,), encapsulated=False),
    Codec(
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "Deflated Explicit VR Little Endian", (PYDICOM,),
        encapsulated=False,
    ),
    Codec(EXPLICIT_VR_BIG_ENDIAN, "Explicit VR Big Endian", (PYDICOM,), encapsulated=False),
    Codec(JPEG_LOSSLESS_SV1, "JPEG Lossless SV1", ("gdcm", "imagecodecs")),
    Codec(JPEG_LOSSLESS, "JPEG Lossless", ("gdcm", "imagecodecs")),
    Codec(JPEG_LS_LOSSLESS, "JPEG-LS Lossless", ("jpeg_ls", "imagecodecs")),
    Codec(JPEG_2000_LOSSLESS, "JPEG 2000 Lossless", ("openjpeg", "imagecodecs")),
    Codec(RLE_LOSSLESS, "RLE Lossless", ("rle", PYDICOM)),
    Codec(HTJ2K_LOSSLESS, "High-Throughput JPEG 2000 Lossless", ("openjpeg", "imagecodecs")),
    Codec(HTJ2K_LOSSLESS_RPCL, "High-Throughput JPEG 2000 Lossless RPCL", ("openjpeg", "imagecodecs")),
    Codec(
        JPEG_LS_NEAR_LOSSLESS, "JPEG-LS Near-lossless", ("jpeg_ls", "imagecodecs"),
        may_be_lossy=True, method="ISO_14495_1",
    ),
    Codec(JPEG_2000, "JPEG 2000", ("openjpeg", "imagecodecs"), may_be_lossy=True, method="ISO_15444_1"),
    Codec(
        HTJ2K, "High-Throughput JPEG 2000", ("openjpeg", "imagecodecs"),
        may_be_lossy=True, method="ISO_15444_15",
    ),
    Codec(JPEG_EXTENDED, "JPEG Extended", ("imagecodecs", "gdcm"), lossy=True, method="ISO_10918_1"),
    Codec(JPEG_BASELINE, "JPEG Baseline", ("imagecodecs", "gdcm"), lossy=True, method="ISO_10918_1"),
)  # fmt: skip

CODECS: dict[str, Codec] = {codec.uid: codec for codec in _TABLE}
"""Every transfer syntax we know for single-frame radiographs, by UID, in the order in which we prefer to
receive."""


@cache
def _is_installed(name: str) -> bool:
    return name == PYDICOM or find_spec(name) is not None


def decodable() -> tuple[str, ...]:
    """UIDs of the transfer syntaxes that the decoders installed here can read, best first. Imports none of
    them."""
    return tuple(codec.uid for codec in CODECS.values() if codec.installed)


def codec_of(uid: str) -> Codec | None:
    """The row of `uid`, or None where we do not know it or no decoder for it is installed."""
    codec = CODECS.get(str(uid))
    return codec if codec is not None and codec.installed else None
