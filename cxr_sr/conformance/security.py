"""Chapter 8: security profiles, ports, audit trail."""

from __future__ import annotations

from config import Settings
from cxr_sr.conformance.document import Document
from cxr_sr.conformance.words import code
from pacs_node.audit.triggers import TRIGGERS
from pacs_node.tls import PROFILES


def write(doc: Document) -> None:
    """Chapter 8."""
    settings = Settings()
    doc.heading(1, "Security")
    doc.heading(2, "Introduction")
    doc.text(
        """The product belongs into a network whose machines are known. It listens on the loopback address
        until it is told otherwise, and then demands a list of callers and, of the web server, TLS or a
        trusted proxy."""
    )
    doc.heading(2, "External Network Requirements")
    doc.text("Clocks that are kept by NTP (IHE CT). No other service of the network is needed.")
    doc.heading(2, "TCP Port Configuration")
    doc.table(
        "Ports that are listened on",
        ("port", "service", "only if configured"),
        [
            (str(settings.dicom.port), "DICOM (`dicom.port`)", "not with `dicom.tls.only`"),
            ("2762", "DICOM over TLS (`dicom.tls.port`)", "`dicom.tls`"),
            (str(settings.web.port), "HTTP or HTTPS (`web.port`)", "HTTPS with `web.tls_cert`"),
        ],
    )
    doc.table(
        "Ports that are called",
        ("port", "service"),
        [
            ("as configured", "DICOM of destinations and archives, with or without TLS"),
            ("as in their addresses", "HTTPS or HTTP of destinations and archives of kind `dicomweb`"),
            (str(settings.audit.port), "syslog of the audit repository (`audit.port`)"),
        ],
    )
    doc.heading(2, "DICOM Security Profiles Support")
    doc.heading(3, "Secure Use and User Identity Profiles")
    doc.text(
        """None. People sign in on the pages with name and password; programs show a token. Their roles are
        `radiologist` and `admin`."""
    )
    doc.heading(3, "Secure Transport Connection Profiles")
    doc.table(
        "Profiles that can be chosen, on both sides (`profile`, `tls_profile`)",
        ("setting", "profile", "section", "TLS 1.2", "TLS 1.3"),
        [
            (code(name), one.title, one.section, ", ".join(one.tls12), ", ".join(one.tls13))
            for name, one in PROFILES.items()
        ],
    )
    doc.text(
        """Certificates are demanded of callers where `dicom.tls.ca` is set, and shown to destinations
        where `tls_cert` is. Those of destinations are checked against `tls_ca` or the authorities of
        the system, and against the address unless `tls_check_host` is off. Nothing falls back to a
        connection in clear."""
    )
    doc.heading(3, "Audit Trail Message Format and Transmission Profiles")
    doc.text(
        """With `audit.messages` set, messages in the format of PS3.15 A.5 go to a file or, by the Audit
        Trail Message Transmission Profile - SYSLOG-TLS (PS3.15 A.6; RFC 5424, RFC 5425), to a
        repository; without `audit.tls` by TCP. This is the one place outside DICOM objects and the
        product's own database where patients are named, and by their Patient ID alone. What a
        repository does not take waits in the database and is sent later; after a break a message may
        come twice. Messages are lost when `retention.events_days` have passed meanwhile, and then a
        message and the log say so."""
    )
    doc.table(
        "Audit messages",
        ("event", "type", "action", "sent when"),
        [
            (
                f"{one.event.value} {one.event.meaning}",
                f"{one.type.value} {one.type.meaning}" if one.type else "",
                one.action,
                one.when,
            )
            for one in TRIGGERS
        ],
    )
    doc.text(
        """User IDs are: of people, the name of the account and `audit.source_id`, joined by @; of our own
        processes, the name of the role, in messages about start and stop the process number, as in the
        log; of other application entities their AE title, of DICOMweb services their address.
        Alternative User IDs name AE titles (`AETITLES=`)."""
    )
    doc.heading(3, "Media Storage Security Profiles")
    doc.text("None.")
    doc.heading(3, "Attribute Confidentiality Profiles")
    doc.text("None.")
    doc.heading(3, "Digital Signature Profiles")
    doc.text("None. Signatures of a source do not hold for its result and are left out of it.")
    doc.heading(3, "Time Synchronization Profiles")
    doc.text("None by itself; the clock is the operating system's.")
    doc.heading(2, "User Identity Negotiation Support")
    doc.text("Neither proposed nor evaluated: a request that has it is judged as one without.")
