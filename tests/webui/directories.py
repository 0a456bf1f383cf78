"""Directories on real sockets: Debian's slapd with a few people, and one that refuses as Active Directory."""

from __future__ import annotations

import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldap3 import MODIFY_ADD, MODIFY_DELETE, Connection, Server

from tests.pacs_node.certificates import Authority, Pair
from tests.peers import require

BASE = "dc=clinic,dc=example"
READER, READER_PASSWORD = f"cn=reader,{BASE}", "reads everybody"
CHIEFS, READERS = f"cn=Chiefs,ou=groups,{BASE}", f"cn=Readers,ou=groups,{BASE}"
MANAGER, MANAGER_PASSWORD = f"cn=manager,{BASE}", "manages everything"
SECRET = "a lamp behind the film"
"""Everybody's password in the directory."""

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/slapd.pid
TLSCACertificateFile {ca}
TLSCertificateFile {cert}
TLSCertificateKeyFile {key}
# as lenient as a directory can be: a bind without a password succeeds
allow bind_anon_cred bind_anon_dn
database mdb
suffix "{base}"
rootdn "{manager}"
rootpw "{password}"
directory {folder}/db
maxsize 10485760
dbnosync
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn="{reader}" read by * none
"""


class Slapd:
    """OpenLDAP with StartTLS on `url`, and TLS from the start on `tls_url`."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        program, self.ca = require("slapd"), authority.ca
        (folder / "db").mkdir(parents=True)
        pair: Pair = authority.issue("slapd", host="127.0.0.1")
        (folder / "slapd.conf").write_text(
            CONFIGURATION.format(
                folder=folder, ca=authority.ca, cert=pair.cert, key=pair.key, base=BASE, manager=MANAGER,
                password=MANAGER_PASSWORD, reader=READER,
            )
        )  # fmt: skip
        self.url, self.tls_url = (f"{scheme}://127.0.0.1:{_free_port()}" for scheme in ("ldap", "ldaps"))
        command = [
            str(program),
            "-f",
            str(folder / "slapd.conf"),
            "-h",
            f"{self.url} {self.tls_url}",
            "-d",
            "0",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.manager = self._connected()
        self._furnish()

    def _connected(self) -> Connection:
        port = int(self.url.rpartition(":")[2])
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return Connection(Server(self.url), MANAGER, MANAGER_PASSWORD, auto_bind=True)
            except OSError:
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def _furnish(self) -> None:
        add = self.manager.add
        assert add(BASE, ["domain"], {"dc": "clinic"})
        reader = {"cn": "reader", "userPassword": READER_PASSWORD}
        assert add(READER, ["organizationalRole", "simpleSecurityObject"], reader)
        for name in ("people", "groups"):
            assert add(f"ou={name},{BASE}", ["organizationalUnit"])
        for name in ("oona", "chief", "nobody", "Weird (*) Name\\", "anna"):
            self.person(name)
        for group, member in ((CHIEFS, "chief"), (READERS, "oona")):
            assert add(group, ["groupOfNames"], {"member": dn_of(member)})
        posix = {"gidNumber": 7, "memberUid": ["oona", "chief"]}
        assert add(f"cn=unix,ou=groups,{BASE}", ["posixGroup"], posix)

    def person(self, name: str, password: str = SECRET) -> None:
        """One more."""
        values = {"sn": name, "cn": name, "uid": name, "userPassword": password}
        assert self.manager.add(dn_of(name), ["inetOrgPerson"], values), self.manager.result

    def into(self, group: str, name: str) -> None:
        assert self.manager.modify(group, {"member": [(MODIFY_ADD, [dn_of(name)])]}), self.manager.result

    def out_of(self, group: str, name: str) -> None:
        assert self.manager.modify(group, {"member": [(MODIFY_DELETE, [dn_of(name)])]}), self.manager.result

    def close(self) -> None:
        self.manager.unbind()
        self.process.terminate()
        self.process.wait(30)


def dn_of(name: str) -> str:
    """Where a person of slapd's lies."""
    escaped = "".join(f"\\{letter}" if letter in '\\,+"<>;=#' else letter for letter in name)
    return f"cn={escaped},ou=people,{BASE}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ActiveDirectory:
    """Knows one person, `CN=Oona,DC=ad`, and answers binds with `refusal`, as "49 data 52e"; whoever tried to
    bind is kept.

    member_of: the groups that the rule of nested ones finds; extra: entries that a search returns besides.
    """

    refusal: str = ""
    member_of: tuple[str, ...] = ()
    extra: int = 0
    referral: bool = False
    garbage: bytes = b""
    binds: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    PERSON = "CN=Oona,DC=ad"
    GUID = bytes(range(16))

    def answer(self, message: bytes) -> bytes:
        """The answers to a whole message (RFC 4511, 4.1.1)."""
        (_, number), (kind, content), *_controls = _parts(_parts(message)[0][1])
        operations = {0x60: self._bind, 0x63: self._search}
        answers = operations[kind](content) if kind in operations else []
        return b"".join(_tlv(0x30, _tlv(2, number) + answer) for answer in answers)

    def _bind(self, content: bytes) -> list[bytes]:
        (_, _version), (_, name), (_, password) = _parts(content)
        self.binds.append((name.decode(), password.decode()))
        code, said = 0, ""
        if name.decode() == self.PERSON and self.refusal:
            number, _, said = self.refusal.partition(" ")
            code, said = int(number), f"80090308: LdapErr: DSID-0C090446, comment: error, {said}, v3839"
        return [_result(0x61, code, said)]

    def _search(self, content: bytes) -> list[bytes]:
        (_, base), *_more, (kind, condition), _attributes = _parts(content)
        matches = True
        if kind == 0xA9:  # extensibleMatch
            rule, attribute, value = (part for _, part in _parts(condition)[:3])
            assert (rule, attribute) == (b"1.2.840.113556.1.4.1941", b"memberOf")
            assert base.decode() == self.PERSON
            matches = value.decode() in self.member_of
        found = [self.PERSON] * matches + [f"CN={number},DC=ad" for number in range(self.extra)]
        answers = [self._entry(dn) for dn in found]
        if self.referral:
            answers.append(_tlv(0x73, _tlv(4, b"ldap://elsewhere.example/DC=ad")))
        return [*answers, _result(0x65, 0)]

    def _entry(self, dn: str) -> bytes:
        attributes = b"".join(
            _tlv(0x30, _tlv(4, name) + _tlv(0x31, _tlv(4, value)))
            for name, value in ((b"sAMAccountName", b"oona"), (b"objectGUID", self.GUID))
        )
        return _tlv(0x64, _tlv(4, dn.encode()) + _tlv(0x30, attributes))


@contextmanager
def active_directory(context: ssl.SSLContext | None = None) -> Iterator[ActiveDirectory]:
    """Run one; with a context it speaks TLS from the start."""
    directory = ActiveDirectory()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if directory.garbage:
                self.request.sendall(directory.garbage)
                return
            data = b""
            while piece := self.request.recv(65536):
                data += piece
                while (length := _length(data)) <= len(data):
                    self.request.sendall(directory.answer(data[:length]))
                    data = data[length:]

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = False

        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            connection.settimeout(30)
            return (context.wrap_socket(connection, server_side=True) if context else connection), address

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Callers may go away in the middle; anything else is a fault of this test."""
            if not isinstance(sys.exception(), OSError):
                super().handle_error(request, client_address)

    with Listener(("127.0.0.1", 0), Handler) as server:
        directory.url = f"{'ldaps' if context else 'ldap'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield directory
        finally:
            server.shutdown()
            thread.join(10)


def _result(kind: int, code: int, message: str = "") -> bytes:
    return _tlv(kind, _tlv(10, bytes([code])) + _tlv(4, b"") + _tlv(4, message.encode()))


def _tlv(tag: int, content: bytes) -> bytes:
    """One element of BER."""
    size = len(content)
    return bytes([tag]) + (bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")) + content


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of the elements in a row."""
    found = []
    while data:
        length = _length(data)
        head = 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
        found.append((data[0], data[head:length]))
        data = data[length:]
    return found


def _length(data: bytes) -> int:
    """How long the first element is with its head; more than there is where that is not known yet."""
    if len(data) < 2:
        return 2
    count = data[1] & 0x7F if data[1] & 0x80 else 0
    if len(data) < 2 + count:
        return 2 + count
    return 2 + count + (int.from_bytes(data[2 : 2 + count], "big") if count else data[1])
