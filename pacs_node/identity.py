"""Who we are on a DICOM network: one table of constants, read by the receiver, the sender and the derived
object.

The project has no UID root from a registration authority. Its root is made from one fixed UUID under the arc
2.25 that ISO/IEC 9834-8 gives to everybody (PS3.5 Annex B.2), with short arcs of our own below it:

====  =======================================================================
arc   meaning
====  =======================================================================
.1    implementation class; its last component counts incompatible changes
.2    devices: one UID for each (model, version, digest of the weights)
.3    instance creators: one UID for each installation
====  =======================================================================

Anything that carries a UID under this root was made by this software, on whatever machine. That is how our
own results are recognised when a PACS sends them back.
"""

from __future__ import annotations

from importlib import metadata

PRODUCT = "cxr-sr"
MANUFACTURER = "cxr-sr project"

UID_ROOT = "2.25.161636706815520330847699087350388164191"
IMPLEMENTATION_CLASS_UID = f"{UID_ROOT}.1.1"
IMPLEMENTATION_VERSION_NAME = "CXR_SR_0_1"
DEVICE_ARC = f"{UID_ROOT}.2"
CREATOR_ARC = f"{UID_ROOT}.3"

PRIVATE_CODING_SCHEME = "99CXRSR"
"""Designator of our private codes (listed in the conformance statement)."""


def is_ours(uid: object) -> bool:
    """Whether `uid` lies under our root, that is, was issued by this software on any machine."""
    return str(uid or "").startswith(UID_ROOT + ".")


def software_version() -> str:
    """Version of the installed distribution, such as ``0.1.0``."""
    try:
        return metadata.version("cxr-sr")
    except metadata.PackageNotFoundError:
        return "0.0.0+unknown"
