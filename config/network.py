"""Other machines in the settings: who may call, the TLS door, and the archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from config.checks import address_or_network
from config.section import AETitle, Name, Port, Section

TlsProfile = Literal["bcp195", "bcp195-extended"]
"""PS3.15 B.12 (BCP 195, RFC 9325) and B.13 (its restricted set of ciphers)."""


_STORED = {"stored": True}
"""Validation context of settings that were valid once."""


class Peer(Section):
    """A caller that may open associations."""

    ae_title: AETitle = Field(description="Its application entity title.")
    address: str | None = Field(None, description="Its IP address or network (CIDR); none: any address.")

    @field_validator("address")
    @classmethod
    def _address_is_an_ip(cls, value: str | None) -> str | None:
        return value if value is None else address_or_network(value)


class DicomTls(Section):
    """The TLS listener of the receiver, beside the plain one or instead of it."""

    port: Port = Field(2762, description="Port of the TLS listener; 0 takes a free one.")
    cert: Path = Field(description="PEM file with the certificate (chain); read again when it changes.")
    key: Path = Field(description="PEM file with the private key.")
    ca: Path | None = Field(
        None,
        description="PEM file of the authorities whose certificates callers must show; none: they show none.",
    )
    profile: TlsProfile = Field("bcp195", description="Secure connection profile (PS3.15 B.12, B.13).")
    only: bool = Field(False, description="Whether the plain port `dicom.port` stays closed.")

    @field_validator("cert", "key", "ca")
    @classmethod
    def _file_is_there(cls, value: Path | None) -> Path | None:
        return _existing(value)


class Remote(Section):
    """How another system is reached, by DIMSE or by DICOMweb."""

    name: Name = Field(description="What rules, pages and the command line call it.")
    kind: Literal["dimse", "dicomweb"] = Field("dimse", description="The protocol that it speaks.")
    ae_title: AETitle | Literal[""] = Field("", description="dimse: its application entity title.")
    host: str = Field("", description="dimse: its address.")
    port: Port = Field(0, description="dimse: its port.")
    calling_ae_title: AETitle | None = Field(
        None, description="dimse: what we call ourselves to it; none: `dicom.ae_title`."
    )
    tls: bool = Field(False, description="dimse: whether the connection is encrypted.")
    tls_profile: TlsProfile = Field(
        "bcp195", description="dimse: secure connection profile (PS3.15 B.12, B.13)."
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of the authorities trusted for it; none: those of the system."
    )
    tls_cert: Path | None = Field(None, description="PEM file with the certificate that we show it.")
    tls_key: Path | None = Field(None, description="PEM file with the private key of that certificate.")
    tls_check_host: bool = Field(
        True, description="Whether its certificate must be made out to its address (dimse)."
    )
    url: str = Field("", description="dicomweb: root of its service, `https://HOST/PATH`.")
    auth: Literal["none", "basic", "bearer", "oauth2"] = Field(
        "none", description="dicomweb: how we sign in; oauth2 is the client credentials grant."
    )
    username: str = Field("", description="dicomweb: user name (basic) or client id (oauth2).")
    secret_file: Path | None = Field(
        None, description="dicomweb: file with the password, the token or the client secret, and no more."
    )
    token_url: str = Field("", description="dicomweb: where oauth2 gives out tokens.")
    scope: str = Field("", description="dicomweb: scope that oauth2 asks for.")

    @classmethod
    def stored(cls, settings: Mapping[str, Any]) -> Self:
        """A remote from its settings as they were kept with a delivery. Raises pydantic's ValidationError.

        Its files are not looked for: one that is being replaced is missing for a moment, no more.
        """
        return cls.model_validate(settings, context=_STORED)

    @field_validator("tls_ca", "tls_cert", "tls_key", "secret_file")
    @classmethod
    def _file_is_there(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return value if info.context is _STORED else _existing(value)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Remote:
        if self.kind == "dimse":
            missing = [key for key in ("ae_title", "host", "port") if not getattr(self, key)]
            if missing:
                raise ValueError(f"expected {' and '.join(missing)} of a dimse system")
        elif not self.url.startswith(("http://", "https://")):
            raise ValueError("expected url, http:// or https://, of a dicomweb system")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("expected tls_cert and tls_key together")
        needed = {"none": (), "basic": ("username", "secret_file"), "bearer": ("secret_file",)}
        for key in needed.get(self.auth, ("username", "secret_file", "token_url")):
            if not getattr(self, key):
                raise ValueError(f"expected {key}, because auth is {self.auth}")
        return self


class Destination(Remote):
    """An archive that results are sent to."""

    storage_commitment: bool = Field(
        False, description="dimse: whether it is asked to promise that it keeps a result."
    )
    commitment_hours: float = Field(
        24.0, gt=0, description="Hours to wait for that promise before the result is sent again."
    )
    label: Literal["none", "overlay", "burned"] = Field(
        "none", description="How a result says in its image that it was enhanced; its header always does."
    )
    transfer_syntax: Literal["uncompressed", "jpeg-ls", "jpeg-2000", "htj2k"] = Field(
        "uncompressed",
        description="How pixels travel: uncompressed, or lossless where the archive accepts it.",
    )
    default: bool = Field(True, description="Whether results go here when a rule names no destination.")
    expire_after_hours: float = Field(
        24.0 * 7, gt=0, description="Hours after which an undelivered result expires."
    )


class Archive(Remote):
    """An archive that images are fetched from."""

    retrieve: Literal["get", "move"] = Field(
        "get", description="dimse: C-GET, or C-MOVE to our receiver (the archive must know its address)."
    )

    @property
    def peer(self) -> str:
        """Its name among all peers: a destination may have the same one."""
        return f"@{self.name}"[:64]


def _existing(value: Path | None) -> Path | None:
    if value is not None and not value.is_file():
        raise ValueError("expected a file that exists")
    return value
