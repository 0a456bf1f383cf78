"""The node's settings: what can be set, its default, and what each value means.

One TOML file and the environment make one frozen :class:`Settings`. Every other room receives it as an
argument; nothing in the project reads a global configuration.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

AETitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""An application entity title: 1 to 16 characters of ISO 646 without backslash (PS3.5, VR AE)."""

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Priority = Literal["stat", "routine", "bulk"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Section):
    url: str = Field(
        "sqlite:///{data_dir}/cxr-sr.db",
        description="SQLAlchemy URL of the state: SQLite, or postgresql+psycopg://user:password@host/name.",
    )


class StorageSettings(_Section):
    url: str = Field("file://{data_dir}/objects", description="Where objects lie: file:// or s3://bucket/prefix.")
    endpoint: str | None = Field(None, description="Address of the S3 service when it is not Amazon's.")
    reserve_bytes: int = Field(
        512 * 2**20, ge=0, description="Free space kept: below it new objects are refused with A700."
    )


class Peer(_Section):
    """A caller that may open associations."""

    ae_title: AETitle
    address: str | None = Field(None, description="IP address or network (CIDR); none: any address.")

    @model_validator(mode="after")
    def _address_is_an_ip(self) -> Peer:
        if self.address is not None:
            ipaddress.ip_network(self.address, strict=False)
        return self


class DicomSettings(_Section):
    ae_title: AETitle = Field("CXR_SR", description="Our application entity title.")
    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback `dicom.allow` is required.")
    port: Port = Field(11112, description="Port to listen on; 0 takes a free one.")
    allow: tuple[Peer, ...] = Field((), description="Callers that are accepted; empty: anyone on loopback.")
    max_associations: int = Field(64, ge=1, description="Associations at once, in all.")
    max_pdu: int = Field(131072, ge=4096, le=1 << 20, description="Largest PDU we receive, in bytes.")
    max_object_bytes: int = Field(1 << 30, ge=1 << 16, description="Largest data set that is accepted, in bytes.")
    acse_timeout: Seconds = Field(10, description="Seconds to wait for association messages.")
    dimse_timeout: Seconds = Field(60, description="Seconds to wait for a DIMSE message.")
    network_timeout: Seconds = Field(60, description="Seconds of silence after which a connection is closed.")
    connection_timeout: Seconds = Field(10, description="Seconds to wait for a TCP connection to a destination.")


class Destination(_Section):
    """An archive that results are sent to."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    ae_title: AETitle
    host: str = Field(min_length=1)
    port: Port
    tls: bool = False
    storage_commitment: bool = False
    label: Literal["none", "overlay", "burned"] = "none"
    default: bool = Field(True, description="Whether results go here when a rule names no destination.")
    expire_after_hours: float = Field(24 * 7, gt=0, description="Hours after which an undelivered result expires.")


class Rule(_Section):
    """What is done with a received object whose attributes match; the first match decides."""

    name: str = Field(min_length=1, max_length=64)
    match: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="DICOM keyword (or CallingAETitle) to one or several values; * and ? are wildcards, "
        "an empty string means missing or empty. All entries must match; upper and lower case are one.",
    )
    action: Literal["enhance", "skip"] = "enhance"
    scale: Literal["auto", 2, 4] | None = None
    model: str | None = None
    priority: Priority = "routine"
    destinations: tuple[str, ...] | None = Field(None, description="Names; none: every default destination.")
    release: Literal["auto", "review"] = "auto"
    forward_original: Literal["never", "always", "if_missing"] = "never"


class EnhancerSettings(_Section):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the network runs.")
    model: str = Field("srgan", description="Name of a shipped model or a path to its .safetensors.")
    scale: Literal["auto", 2, 4] = Field("auto", description="x4 up to a long side of 1024, else x2, else skipped.")
    max_output_side: int = Field(9216, ge=64, description="Longest side of a result, in pixels.")
    min_output_spacing: float = Field(0.05, ge=0, description="Finest pixel spacing of a result, in mm.")
    threads: int = Field(0, ge=0, description="CPU threads of the network; 0 leaves it to the library.")


class QueueSettings(_Section):
    max_attempts: int = Field(3, ge=1, description="Attempts at processing before a job is failed.")
    lease_seconds: Seconds = Field(60, description="Time after which a silent worker's job is given to another.")
    retry_base_seconds: Seconds = Field(5, description="First wait before a retry; doubles with each.")
    retry_max_seconds: Seconds = Field(900, description="Longest wait between retries.")
    max_waiting: int = Field(100_000, ge=1, description="Queued jobs beyond which new objects are refused.")
    poll_seconds: Seconds = Field(0.5, description="How often an idle worker or sender looks for work.")


class ExamineSettings(_Section):
    timeout_seconds: Seconds = Field(60, description="Time the decoder child may take for one object.")
    memory_bytes: int = Field(4 << 30, ge=256 << 20, description="Address space the decoder child may use.")
    max_pixels: int = Field(64_000_000, ge=4096, description="Largest matrix that is decoded.")


class WebSettings(_Section):
    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback needs TLS or a trusted proxy.")
    port: Port = Field(8080, description="Port to listen on; 0 takes a free one.")
    tls_cert: Path | None = Field(None, description="PEM certificate (chain).")
    tls_key: Path | None = Field(None, description="PEM private key.")
    trusted_proxies: tuple[str, ...] = Field((), description="Addresses of proxies whose forwarding headers count.")
    threads: int = Field(160, ge=4, description="Threads that serve requests; each event stream takes one.")
    max_upload_bytes: int = Field(1 << 30, ge=1 << 16, description="Largest upload request, in bytes.")
    session_hours: float = Field(12, gt=0, description="Hours after which a login ends.")
    session_idle_minutes: float = Field(60, gt=0, description="Minutes of silence after which a login ends.")


class RetentionSettings(_Section):
    sources_days: float = Field(30, gt=0, description="Days that finished sources are kept.")
    results_days: float = Field(30, gt=0, description="Days that delivered results are kept.")
    events_days: float = Field(365, gt=0, description="Days that job events are kept.")
    backups: int = Field(7, ge=0, description="Database backups kept; 0 makes none.")


class SchedulerSettings(_Section):
    lease_seconds: Seconds = Field(15, description="Interval of the sweep for expired leases.")
    echo_seconds: Seconds = Field(300, description="Interval of C-ECHO to each destination.")
    disk_seconds: Seconds = Field(60, description="Interval of the disk watermark check.")
    retention_seconds: Seconds = Field(3600, description="Interval of retention.")
    orphans_seconds: Seconds = Field(3600, description="Interval of the sweep for orphaned files.")
    orphan_age_seconds: Seconds = Field(86400, description="Age from which a file without a row is an orphan.")
    backup_hours: float = Field(24, gt=0, description="Interval of database backups.")


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "human", "json"] = Field("auto", description="auto: human on a terminal, else JSON.")


class Settings(BaseSettings):
    """Everything that can be configured; `config.load_settings` makes it."""

    model_config = SettingsConfigDict(
        env_prefix="CXR_SR_", env_nested_delimiter="__", extra="forbid", frozen=True, nested_model_default_partial_update=True
    )

    data_dir: Path = Field(Path("var"), description="Folder of everything the node keeps.")
    database: DatabaseSettings = DatabaseSettings()
    storage: StorageSettings = StorageSettings()
    dicom: DicomSettings = DicomSettings()
    destinations: tuple[Destination, ...] = ()
    rules: tuple[Rule, ...] = ()
    enhancer: EnhancerSettings = EnhancerSettings()
    queue: QueueSettings = QueueSettings()
    examine: ExamineSettings = ExamineSettings()
    web: WebSettings = WebSettings()
    retention: RetentionSettings = RetentionSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    log: LogSettings = LogSettings()

    @property
    def database_url(self) -> str:
        """`database.url` with `{data_dir}` filled in."""
        return self.database.url.replace("{data_dir}", str(self.data_dir))

    @property
    def storage_url(self) -> str:
        """`storage.url` with `{data_dir}` filled in."""
        return self.storage.url.replace("{data_dir}", str(self.data_dir.absolute()))

    def destination(self, name: str) -> Destination | None:
        """The configured destination of that name."""
        return next((d for d in self.destinations if d.name == name), None)

    @property
    def default_destinations(self) -> tuple[Destination, ...]:
        return tuple(d for d in self.destinations if d.default)
