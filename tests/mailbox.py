"""A real mail server for tests (aiosmtpd, in a thread of its own): what it was handed, over which TLS; it misbehaves when told to."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.faces.test_site_certificate import make_site_certificate

USER, PASSWORD = "hanbit", "the way to the mail server"
FROM = "no-reply@bank.example"


@dataclass
class Mailbox:
    """What came in. `answers` are said to the next letters instead of yes, one each."""

    port: int = 0
    ca: str = ""
    letters: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    to: list[list[str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    users: list[Any] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]) -> str:  # noqa: N802 - aiosmtpd's name
        """Whom it takes a letter for."""
        if self.answers and self.answers[0].startswith("rcpt "):
            return self.answers.pop(0).removeprefix("rcpt ")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """The letter itself."""
        if self.answers:
            return self.answers.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        found = message_from_bytes(content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        self.letters.append(found)
        self.raw.append(content)
        self.to.append(list(envelope.rcpt_tos))
        self.encrypted.append(session.ssl is not None)
        self.users.append(session.auth_data)
        return "250 OK"

    def settings(self, tls: str = "starttls") -> dict[str, Any]:
        """Of an operator that sends its letters here."""
        return {
            "smtp_host": "localhost",
            "smtp_port": self.port,
            "smtp_tls": tls,
            "smtp_ca": self.ca,
            "smtp_user": USER if tls == "starttls" else "",
            "smtp_password": PASSWORD if tls == "starttls" else "",
            "mail_from": FROM,
        }


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False, auth_data=data)


@contextmanager
def mailbox(folder: Path, tls: str = "starttls") -> Iterator[Mailbox]:
    """A mail server on this machine: STARTTLS, TLS from the first byte, "off", or "none", which wants a log-in and offers no TLS."""
    found = Mailbox()
    folder.mkdir(exist_ok=True)
    chain, key = make_site_certificate(folder, "localhost")
    found.ca = str(chain)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    with socket.create_server(("127.0.0.1", 0)) as free:
        found.port = free.getsockname()[1]
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": found.port}
    if tls == "starttls":
        options |= {"tls_context": context, "require_starttls": True, "authenticator": _authenticate, "auth_required": True}
    elif tls == "tls":
        options |= {"ssl_context": context}
    server = Controller(found, **options)
    server.start()
    try:
        yield found
    finally:
        server.stop()
