"""Signing in by others in the settings: an OpenID Connect provider, and an LDAP directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from config.checks import loopback
from config.section import Seconds, Section


class OidcSettings(Section):
    """A provider of OpenID Connect that people may sign in by."""

    issuer: str = Field(
        description="Address of the provider as its tokens name it, above its "
        "`/.well-known/openid-configuration`; https://, or http:// on loopback."
    )
    client_id: str = Field(min_length=1, description="What the provider calls this node.")
    client_secret: str | None = Field(
        None, min_length=1, repr=False, description="The secret that the provider gave this node."
    )
    client_secret_file: Path | None = Field(None, description="File with that secret and no more.")
    ca: Path | None = Field(
        None, description="PEM file of the authorities trusted for it; none: the usual ones."
    )
    label: str = Field(
        "Single sign-on", min_length=1, max_length=64, description="What the button of the login page says."
    )
    scopes: tuple[str, ...] = Field(
        ("openid", "profile"), description="Scopes that are asked for; openid is among them."
    )
    name_claim: str = Field("preferred_username", min_length=1, description="Claim with a person's name.")
    roles_claim: str = Field(
        "groups",
        min_length=1,
        description="Claim with a person's groups or roles; dots lead into tables (`realm_access.roles`).",
    )
    admins: tuple[str, ...] = Field((), description="Values of that claim that make an administrator.")
    radiologists: tuple[str, ...] = Field((), description="Values of that claim that make a radiologist.")
    default_role: Literal["none", "radiologist"] = Field(
        "none", description="Role of whoever has none of these values; none: they are turned away."
    )
    prompt: Literal["", "login", "select_account", "consent"] = Field(
        "", description="What the provider is to ask a person each time; empty: what it wants."
    )
    timeout: Seconds = Field(5.0, description="Seconds to wait for the provider's answer.")

    @field_validator("issuer")
    @classmethod
    def _no_one_listens_in(cls, value: str) -> str:
        parts = urlsplit(value)
        plain = parts.scheme == "http" and loopback(parts.hostname or "")
        if not parts.hostname or parts.query or parts.fragment or not (parts.scheme == "https" or plain):
            raise ValueError("expected https://HOST/PATH (http:// on loopback alone)")
        return value

    @field_validator("client_secret_file", "ca")
    @classmethod
    def _file_is_there(cls, value: Path | None) -> Path | None:
        return _existing(value)

    @field_validator("scopes")
    @classmethod
    def _openid_is_asked_for(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return value if "openid" in value else ("openid", *value)

    @model_validator(mode="after")
    def _has_one_secret(self) -> OidcSettings:
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("expected client_secret or client_secret_file, one of the two")
        return self

    @property
    def secret(self) -> str:
        """The client's secret. Raises OSError when its file cannot be read."""
        return self.client_secret or _first_line(self.client_secret_file)


class LdapSettings(Section):
    """A directory (LDAP, Active Directory) whose people may sign in with their passwords there."""

    url: str = Field(description="`ldaps://HOST`, or `ldap://HOST` with start_tls; a port may follow.")
    start_tls: bool = Field(False, description="Whether a connection by ldap:// is encrypted before its use.")
    ca: Path | None = Field(
        None, description="PEM file of the authorities trusted for it; none: those of the system."
    )
    bind_dn: str = Field("", description="DN of the account that looks people up; empty: anonymous.")
    bind_password: str | None = Field(None, min_length=1, repr=False, description="Its password.")
    bind_password_file: Path | None = Field(None, description="File with that password and no more.")
    base: str = Field(min_length=1, description="DN below which people are looked for.")
    user_filter: str = Field(
        "(&(objectClass=person)(sAMAccountName={name}))",
        pattern=r"^\(.*\{name\}.*\)$",
        description="Filter that finds a person; {name} is what was typed.",
    )
    name_attribute: str = Field(
        "sAMAccountName", min_length=1, description="Attribute with a person's name here."
    )
    groups: Literal["memberOf", "member", "nested"] = Field(
        "memberOf",
        description="How groups are found: by the person's memberOf, by the members of the group, "
        "or (Active Directory) through groups in groups.",
    )
    member_attribute: str = Field(
        "member",
        pattern=r"^[A-Za-z][A-Za-z0-9;-]*$",
        description="groups = member: the group's attribute with the DNs of its members "
        "(memberUid: with their names).",
    )
    admins: tuple[str, ...] = Field((), description="DNs of groups whose members are administrators.")
    radiologists: tuple[str, ...] = Field((), description="DNs of groups whose members are radiologists.")
    default_role: Literal["none", "radiologist"] = Field(
        "none", description="Role of whoever is in none of these groups; none: they are turned away."
    )
    timeout: Seconds = Field(5.0, description="Seconds to wait for each answer of the directory.")

    @field_validator("url")
    @classmethod
    def _is_a_directory(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname or parts.username is not None:
            raise ValueError("expected ldaps://HOST or ldap://HOST")
        if parts.path.strip("/") or parts.query:
            raise ValueError("expected nothing after the host and port: base and user_filter say the rest")
        return value

    @field_validator("ca", "bind_password_file")
    @classmethod
    def _file_is_there(cls, value: Path | None) -> Path | None:
        return _existing(value)

    @model_validator(mode="after")
    def _passwords_are_kept_from_others(self) -> LdapSettings:
        parts = urlsplit(self.url)
        if parts.scheme == "ldap" and not self.start_tls and not loopback(parts.hostname or ""):
            raise ValueError("expected ldaps://, or start_tls = true: passwords would travel in the clear")
        if parts.scheme == "ldaps" and self.start_tls:
            raise ValueError("expected ldap:// with start_tls; ldaps:// is encrypted from the start")
        given = (self.bind_password is not None) + (self.bind_password_file is not None)
        if given != (1 if self.bind_dn else 0):
            raise ValueError("expected bind_dn with bind_password or bind_password_file, or none of them")
        return self

    @property
    def password(self) -> str:
        """The password of bind_dn; empty without one. Raises OSError when its file cannot be read."""
        return self.bind_password or (_first_line(self.bind_password_file) if self.bind_password_file else "")


def _existing(value: Path | None) -> Path | None:
    if value is not None and not value.is_file():
        raise ValueError("expected a file that exists")
    return value


def _first_line(file: Path | None) -> str:
    """The secret in a file. Raises OSError, for an empty one too."""
    assert file is not None
    lines = file.read_text("utf-8").splitlines()
    if not lines or not lines[0].strip():
        raise OSError(f"{file} is empty")
    return lines[0].strip()
