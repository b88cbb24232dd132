"""One connection to the operator's mail server, each step in a thread; what the server says decides whether a letter waits or ends."""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar
from urllib.parse import urlsplit

from hanbit.mail.letters import Letter
from hanbit.settings import Settings

STEP_S: Final = 15.0
"""How long the server may be silent before a letter waits for its next hour."""
LETTER_S: Final = 60.0
"""How long one letter may take, a connection and a log-in included: well before anybody else begins to send it (`post.FIRST_WAIT_S`)."""
_PERMANENT: Final = range(500, 600)
Answer = TypeVar("Answer")


class NotNow(Exception):
    """The server was not reached, offers no TLS, or asks to come again: every letter waits."""


class Waits(NotNow):
    """The server takes this letter later; others may go on."""


class Refused(Exception):
    """The server will never take this letter; says the code with which it was refused."""


class Connection:
    """Opened with the first letter, ended by `close`, whatever it is in the middle of."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._smtp: smtplib.SMTP | None = None
        self._abandoned = False
        """Nobody waits for the thread any more: what it has not handed over by now it must not hand over."""

    async def send(self, letter: Letter) -> None:
        """Hand over one letter: when this returns, the server has it. NotNow, Waits or Refused where it has not."""
        await self._step(lambda: self._send(letter))

    async def close(self) -> None:
        """Say goodbye, if there is anybody."""
        if self._smtp is not None:
            with suppress(NotNow):
                await self._step(self._quit)
            self._smtp = None

    async def _step(self, step: Callable[[], Answer]) -> Answer:
        try:
            async with asyncio.timeout(LETTER_S):
                return await self._in_thread(step)
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            raise (Refused if code in _PERMANENT else Waits)(str(code)) from error
        except (smtplib.SMTPDataError, smtplib.SMTPSenderRefused) as error:
            permanent = isinstance(error, smtplib.SMTPDataError) and error.smtp_code in _PERMANENT
            raise (Refused if permanent else Waits)(str(error.smtp_code)) from error
        except smtplib.SMTPResponseException as error:
            raise NotNow(f"{type(error).__name__} {error.smtp_code}") from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise NotNow(type(error).__name__) from error

    async def _in_thread(self, step: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.to_thread(step)
        except asyncio.CancelledError:
            self._abandoned = True
            self._abort()  # the thread wakes up from its socket and ends: a server that stops waits for no mail server
            raise

    def _send(self, letter: Letter) -> None:
        if self._smtp is None:
            self._open()
        self._check_awaited()
        assert self._smtp is not None
        self._smtp.sendmail(letter.sender, [letter.recipient], letter.content)

    def _open(self) -> None:
        settings = self._settings
        name = urlsplit(settings.public_url).hostname or "localhost"
        context = ssl.create_default_context(cafile=settings.smtp_ca or None)
        smtp: smtplib.SMTP
        if settings.smtp_tls == "tls":
            smtp = smtplib.SMTP_SSL(local_hostname=name, timeout=STEP_S, context=context)
        else:
            smtp = smtplib.SMTP(local_hostname=name, timeout=STEP_S)
        self._smtp = smtp  # before it connects: `_abort` must reach the socket of a server that never ends its first word
        try:
            smtp._host = settings.smtp_host  # type: ignore[attr-defined]  # noqa: SLF001 - whose certificate TLS asks for; only the constructor, which would connect, sets it
            smtp.connect(settings.smtp_host, settings.smtp_port)
            self._check_awaited()
            if settings.smtp_tls == "starttls":
                smtp.starttls(context=context)  # raises where the server offers none: nothing is ever said in clear
            if settings.smtp_user:
                smtp.login(settings.smtp_user, settings.smtp_password)
        except BaseException:
            self._smtp = None
            _hang_up(smtp)
            raise

    def _quit(self) -> None:
        assert self._smtp is not None
        self._smtp.quit()

    def _abort(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            _hang_up(smtp)

    def _check_awaited(self) -> None:
        if self._abandoned:
            raise ConnectionAbortedError


def _hang_up(smtp: smtplib.SMTP) -> None:
    with suppress(OSError):
        if smtp.sock is not None:
            smtp.sock.shutdown(socket.SHUT_RDWR)
    smtp.close()
