"""The node's settings: what can be set, its default, and what each value means.

One TOML file and the environment make one frozen :class:`Settings` (see `config.load`). Every other room
receives it as an argument; nothing in the project reads a global configuration.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.checks import address_or_network, first_conflict
from config.network import Archive, Destination, DicomTls, Peer
from config.section import (
    CONFLICT,
    DATABASE_URL,
    STORAGE_URL,
    AETitle,
    Port,
    Priority,
    Scale,
    Seconds,
    Section,
)
from config.signin import LdapSettings, OidcSettings
from config.sources import Sources
from config.targets import alert_targets


class DatabaseSettings(Section):
    url: str = Field(
        "sqlite:///{data_dir}/cxr-sr.db",
        pattern=DATABASE_URL,
        description="SQLAlchemy URL of the state: `sqlite:///FILE`, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.",
    )


class StorageSettings(Section):
    url: str = Field(
        "file://{data_dir}/objects",
        pattern=STORAGE_URL,
        description="Where objects lie: `file:///FOLDER`, or `s3://BUCKET/PREFIX`.",
    )
    endpoint: str | None = Field(None, description="Address of the S3 service when it is not Amazon's.")
    reserve_bytes: int = Field(
        512 * 2**20,
        ge=0,
        description="Free space kept, in bytes: below it new objects are refused with A700.",
    )
    reserve_percent: float = Field(
        1.0,
        ge=0,
        lt=100,
        description="Free space kept, in percent of the file system: the larger of both counts.",
    )


class DicomSettings(Section):
    ae_title: AETitle = Field("CXR_SR", description="Our application entity title.")
    ae_titles: tuple[AETitle, ...] = Field(
        (), description="Further titles that we answer to; rules can tell them apart by CalledAETitle."
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on; beyond loopback `dicom.allow` is required."
    )
    port: Port = Field(11112, description="Port to listen on; 0 takes a free one.")
    allow: tuple[Peer, ...] = Field((), description="Callers that are accepted; empty: anyone on loopback.")
    max_associations: int = Field(64, ge=1, description="Associations at once, in all.")
    max_associations_per_peer: int = Field(
        32,
        ge=1,
        description="Associations at once from one address; a connection that says nothing counts, "
        "and gives way to a new one.",
    )
    max_pdu: int = Field(131072, ge=4096, le=1 << 20, description="Largest PDU we receive, in bytes.")
    max_object_bytes: int = Field(1 << 30, ge=1 << 16, description="Largest data set accepted, in bytes.")
    acse_timeout: Seconds = Field(10.0, description="Seconds to wait for association messages.")
    dimse_timeout: Seconds = Field(60.0, description="Seconds to wait for a DIMSE message.")
    network_timeout: Seconds = Field(
        60.0, description="Seconds of silence after which a connection is closed."
    )
    connection_timeout: Seconds = Field(
        10.0, description="Seconds to wait for a connection to a destination."
    )
    handshake_timeout: Seconds = Field(
        10.0, description="Seconds that a TLS handshake may take, on either side."
    )
    tls: DicomTls | None = Field(None, description="The TLS listener; none: there is no such.")
    storage_commitment: bool = Field(
        False,
        description="Whether callers may ask for storage commitment of what they sent; "
        "we promise only what an archive has promised us.",
    )


class Rule(Section):
    """What is done with a received object whose attributes match; the first match decides."""

    name: str = Field(min_length=1, max_length=64, description="What the job's page calls it.")
    match: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="DICOM keyword, or CallingAETitle, CalledAETitle, CallingAddress, Origin, Anatomy, View, "
        "to one or several values; * and ? are wildcards, an empty text means missing or empty. All entries "
        "must match; upper and lower case are one. docs/rules.md has examples.",
    )
    action: Literal["enhance", "skip"] = Field("enhance", description="What happens to what matches.")
    scale: Scale | None = Field(None, description="Scale for what matches; none: `enhancer.scale`.")
    model: str | None = Field(None, description="Model for what matches; none: `enhancer.model`.")
    priority: Priority = Field("routine", description="Order of processing.")
    destinations: tuple[str, ...] | None = Field(None, description="Names; none: every default destination.")
    release: Literal["auto", "review"] = Field(
        "auto", description="review: the result waits as `held` for a person."
    )
    forward_original: Literal["never", "always", "if_missing"] = Field(
        "never", description="Whether the original goes to the destinations too."
    )
    return_to_sender: bool = Field(
        False,
        description="Whether the result also goes to the destination that has the caller's AE title.",
    )


class EnhancerSettings(Section):
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the network runs.")
    model: str = Field(
        "srgan", min_length=1, description="Name of a shipped model or a path to its .safetensors."
    )
    scale: Scale = Field(
        "auto", description="auto: 4 up to a long side of 1024 pixels, else 2, else skipped."
    )
    max_output_side: int = Field(9216, ge=64, description="Longest side of a result, in pixels.")
    min_output_spacing: float = Field(0.05, ge=0, description="Finest pixel spacing of a result, in mm.")
    threads: int = Field(0, ge=0, description="CPU threads of the network; 0 leaves it to the library.")
    synthetic_data: bool = Field(
        False,
        description="Whether results carry SyntheticData YES; otherwise the source's value is passed on.",
    )


class FetchSettings(Section):
    hours: str = Field(
        "",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$",
        description="Local hours in which archives are worked through, `20:00-06:00`; empty: always.",
    )
    max_waiting: int = Field(
        20, ge=1, description="Fetched images that may wait for a worker before the next is fetched."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts at fetching a study before it counts as failed.")


class QueueSettings(Section):
    max_attempts: int = Field(3, ge=1, description="Attempts at processing before a job is failed.")
    lease_seconds: Seconds = Field(
        60.0, description="Silence after which a worker's job is given to another."
    )
    retry_base_seconds: Seconds = Field(5.0, description="First wait before a retry; doubles with each.")
    retry_max_seconds: Seconds = Field(900.0, description="Longest wait between retries.")
    max_waiting: int = Field(100_000, ge=1, description="Queued jobs beyond which new objects are refused.")
    poll_seconds: Seconds = Field(0.5, description="How often an idle worker or sender looks for work.")


class ExamineSettings(Section):
    timeout_seconds: Seconds = Field(60.0, description="Time the decoder child may take for one object.")
    memory_bytes: int = Field(4 << 30, ge=256 << 20, description="Address space the decoder child may use.")
    max_pixels: int = Field(64_000_000, ge=4096, description="Largest matrix that is decoded, in pixels.")


class WebSettings(Section):
    host: str = Field(
        "127.0.0.1", description="Address to listen on; beyond loopback: TLS or a trusted proxy."
    )
    port: Port = Field(8080, description="Port to listen on; 0 takes a free one.")
    tls_cert: Path | None = Field(None, description="PEM file with the certificate (chain).")
    tls_key: Path | None = Field(None, description="PEM file with the private key.")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="IP addresses or networks of proxies whose forwarding headers count."
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Origins (`https://HOST`) of other pages, such as an OHIF viewer, "
        "that may read `/dicomweb/`.",
    )
    threads: int = Field(160, ge=4, description="Threads that serve requests; each event stream takes one.")
    max_upload_bytes: int = Field(1 << 30, ge=1 << 16, description="Largest upload request, in bytes.")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="Address by which people reach the pages; shared links and alerts use it.",
    )
    language: Literal["auto", "en", "de"] = Field(
        "auto",
        description="Language of the pages; auto: what the person chose, else what the browser asks for.",
    )
    requests_per_minute: int = Field(
        600, ge=0, description="Requests that one API token may make in a minute; 0: any number."
    )
    share_days: float = Field(7.0, gt=0, description="Days after which a shared link ends, at most.")
    session_hours: float = Field(12.0, gt=0, description="Hours after which a login ends.")
    session_idle_minutes: float = Field(
        60.0, gt=0, description="Minutes of silence after which a login ends."
    )
    password_min_length: int = Field(
        12, ge=8, le=64, description="Fewest characters of a password that somebody chooses."
    )
    oidc: OidcSettings | None = Field(
        None, description="Signing in by an OpenID Connect provider (docs/signin.md); none: there is no such."
    )
    ldap: LdapSettings | None = Field(
        None, description="Signing in with passwords of a directory (docs/signin.md); none: there is no such."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_ips(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(address_or_network(proxy) for proxy in value)

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
                raise ValueError("expected https://HOST or https://HOST:PORT, without a path and no `*`")
        return tuple(origin.lower() for origin in value)

    @field_validator("tls_cert", "tls_key")
    @classmethod
    def _file_is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("expected a file that exists")
        return value


class RetentionSettings(Section):
    sources_days: float = Field(30.0, gt=0, description="Days that finished sources are kept.")
    results_days: float = Field(30.0, gt=0, description="Days that delivered results are kept.")
    minimum_hours: float = Field(
        24.0,
        ge=0,
        description="Hours that finished images are kept at least when the disk is almost full: then what "
        "may be purged at all goes early, oldest first.",
    )
    events_days: float = Field(365.0, gt=0, description="Days that job events are kept.")
    backups: int = Field(7, ge=0, description="Database backups kept; 0 makes none.")


class SchedulerSettings(Section):
    lease_seconds: Seconds = Field(
        5.0, description="Interval of the sweep for leases that have ended or whose owner has died."
    )
    echo_seconds: Seconds = Field(300.0, description="Interval of C-ECHO to each destination.")
    disk_seconds: Seconds = Field(60.0, description="Interval of the looks at disk and certificates.")
    retention_seconds: Seconds = Field(3600.0, description="Interval of retention.")
    orphans_seconds: Seconds = Field(3600.0, description="Interval of the sweep for orphaned files.")
    orphan_age_seconds: Seconds = Field(
        86400.0, description="Age from which a file without a row is an orphan."
    )
    backup_hours: float = Field(24.0, gt=0, description="Interval of database backups.")
    seal_seconds: Seconds = Field(300.0, description="Interval of seals of the audit trail.")
    verify_hours: float = Field(24.0, gt=0, description="Interval at which the audit trail is verified.")


class AuditSettings(Section):
    messages: Literal["none", "file", "syslog"] = Field(
        "none", description="Where audit messages in the DICOM format (PS3.15 A.5) go."
    )
    file: Path = Field(
        Path("{data_dir}/audit.xml"), description="file: one message a line is added to this file."
    )
    host: str = Field("", description="syslog: address of the audit repository.")
    port: Port = Field(6514, description="syslog: its port (RFC 5425).")
    tls: bool = Field(True, description="syslog: whether the connection is encrypted.")
    ca: Path | None = Field(None, description="syslog: PEM file of the authorities trusted for it.")
    cert: Path | None = Field(None, description="syslog: PEM file with the certificate that we show it.")
    key: Path | None = Field(None, description="syslog: PEM file with its private key.")
    source_id: str = Field("cxr-sr", min_length=1, description="What messages call this node.")


class ResearchSettings(Section):
    deidentified_export: bool = Field(
        False,
        description="Whether `cxr-sr export` may take de-identified results out of the node; ask those who "
        "answer for data protection first.",
    )


class AlertSettings(Section):
    urls: tuple[str, ...] = Field(
        (),
        description="Where alerts go, as Apprise writes it: `mailtos://USER:PASSWORD@HOST?to=ADDRESS`, "
        "`jsons://HOST/PATH`, and others; empty: the dashboard alone shows them.",
    )
    check_seconds: Seconds = Field(60.0, description="Interval of the looks at what alerts are about.")
    waiting_minutes: float = Field(30.0, gt=0, description="Age of the oldest waiting job that is told.")
    failed_jobs: int = Field(5, ge=1, description="Jobs failed within an hour that are told.")
    unreachable_minutes: float = Field(
        15.0, gt=0, description="Time that a destination does not answer before it is told."
    )
    disk_days: float = Field(
        7.0, gt=0, description="Days before the disk is full that are told, as forecast."
    )
    expiry_days: float = Field(
        21.0, gt=0, description="Days before a certificate or a token ends that are told."
    )
    paused_hours: float = Field(4.0, gt=0, description="Hours of a pause before it is told.")
    repeat_hours: float = Field(24.0, gt=0, description="Hours after which what still stands is told again.")
    names: bool = Field(
        False, description="Whether an alert names patients and accession numbers; think of who reads mail."
    )

    @field_validator("urls")
    @classmethod
    def _apprise_knows_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return alert_targets(value)


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is written."
    )
    format: Literal["auto", "human", "json"] = Field(
        "auto", description="auto: human on a terminal, else JSON."
    )


class Settings(BaseSettings):
    """Everything that can be configured. It reads nothing itself: `config.load_settings` does."""

    model_config = SettingsConfigDict(
        env_prefix="CXR_SR_", env_nested_delimiter="__", env_parse_none_str="", extra="forbid", frozen=True
    )

    data_dir: Path = Field(Path("var"), description="Folder of everything the node keeps.")
    database: DatabaseSettings = Field(DatabaseSettings(), description="The state.")
    storage: StorageSettings = Field(StorageSettings(), description="The objects.")
    dicom: DicomSettings = Field(DicomSettings(), description="How modalities and archives reach us.")
    destinations: tuple[Destination, ...] = Field((), description="Archives that results are sent to.")
    archives: tuple[Archive, ...] = Field((), description="Archives that images are fetched from.")
    rules: tuple[Rule, ...] = Field(
        (),
        description="What is enhanced and where it goes, first match first; then the default rule: "
        "frontal chest CR and DX.",
    )
    enhancer: EnhancerSettings = Field(EnhancerSettings(), description="The network.")
    fetch: FetchSettings = Field(FetchSettings(), description="Working through an archive.")
    queue: QueueSettings = Field(QueueSettings(), description="The job queue and the deliveries.")
    examine: ExamineSettings = Field(ExamineSettings(), description="The decoder child.")
    web: WebSettings = Field(WebSettings(), description="Pages and the HTTP interface.")
    retention: RetentionSettings = Field(RetentionSettings(), description="How long things are kept.")
    scheduler: SchedulerSettings = Field(SchedulerSettings(), description="What is done by the clock.")
    audit: AuditSettings = Field(AuditSettings(), description="Audit messages to a repository.")
    research: ResearchSettings = Field(ResearchSettings(), description="What results are given away for.")
    alerts: AlertSettings = Field(AlertSettings(), description="Telling people what needs them.")
    log: LogSettings = Field(LogSettings(), description="The log, on standard error.")
    _sources: Sources = PrivateAttr(default_factory=Sources)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: a test's settings do not depend on its surroundings."""
        return (init_settings,)

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        conflict = first_conflict(self)
        if conflict is not None:
            context = {"key": conflict.key, "because": conflict.because}
            raise PydanticCustomError(CONFLICT, conflict.message, context)
        return self

    @property
    def sources(self) -> Sources:
        """What they were read from."""
        return self._sources

    def read_from(self, sources: Sources) -> Settings:
        """These settings, knowing what they were read from."""
        self._sources = sources
        return self

    @property
    def database_url(self) -> str:
        """`database.url` with `{data_dir}` filled in."""
        return self.database.url.replace("{data_dir}", str(self.data_dir.absolute()))

    @property
    def storage_url(self) -> str:
        """`storage.url` with `{data_dir}` filled in."""
        return self.storage.url.replace("{data_dir}", quote(str(self.data_dir.absolute())))

    def destination(self, name: str) -> Destination | None:
        """The configured destination of that name."""
        return next((d for d in self.destinations if d.name == name), None)

    def archive(self, name: str) -> Archive | None:
        """The configured archive of that name."""
        return next((a for a in self.archives if a.name == name), None)

    @property
    def default_destinations(self) -> tuple[Destination, ...]:
        """Destinations that results go to when a rule names none."""
        return tuple(d for d in self.destinations if d.default)
