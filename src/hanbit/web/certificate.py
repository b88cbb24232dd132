"""The certificate of the customers' site: two files that somebody renews, read again when they change.

A bad new pair is refused with a log line and the one before stays. At the start there is none before: files that cannot serve stop the
server, while a certificate that has ended or bears another name is only complained of, because merchants' lines and recovery need none.
"""

import asyncio
import ipaddress
import logging
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from hanbit.crypto import tls
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput

LOOK_EVERY_S: Final = 5.0
"""How often the files are looked at; SIGHUP looks at once."""
FILE_MAX: Final = 256 * 1024
"""Bytes of one file; a chain of four certificates has some 8 KiB."""
_log = logging.getLogger("hanbit.web")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a site's certificate says of itself."""

    names: tuple[str, ...]
    """DNS names and addresses, in the certificate's spelling."""
    not_before: int
    not_after: int

    def complaints(self, host: str, at: int) -> list[str]:
        """Why browsers would not take it for this host now."""
        found = (
            [] if any(_covers(name, host) for name in self.names) else [f"it is for {', '.join(self.names) or 'nobody'}, not for {host}"]
        )
        if at > self.not_after:
            found.append(f"it ended on {_date(self.not_after)}")
        if at < self.not_before:
            found.append(f"it begins only on {_date(self.not_before)}")
        return found


def read(chain_path: Path) -> Facts:
    """The facts of the first certificate of a PEM file; BadInput if there is none."""
    try:
        if chain_path.stat().st_size > FILE_MAX:
            raise BadInput(f"{chain_path} is larger than {FILE_MAX} bytes")
        leaf = x509.load_pem_x509_certificates(chain_path.read_bytes())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
        dates = int(leaf.not_valid_before_utc.timestamp()), int(leaf.not_valid_after_utc.timestamp())
    except x509.ExtensionNotFound:
        raise BadInput(f"{chain_path}: the certificate bears no name (subject alternative name)") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{chain_path}: {error}") from error
    return Facts(tuple(found), *dates)


def check_key_file(key_path: Path) -> None:
    """BadInput unless the private key can be read by its owner alone."""
    try:
        mode = key_path.stat().st_mode
    except OSError as error:
        raise BadInput(f"{key_path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(f"{key_path} can be read by others: chmod 600 {key_path}")


class SiteCertificate:
    """What the next connection is served with; `context` is another object after each reload."""

    def __init__(self, chain_path: Path, key_path: Path, *, host: str, clock: Clock) -> None:
        """`host` is the public name. BadInput if the files cannot serve at all."""
        self._paths = (chain_path, key_path)
        self._host = host
        self._clock = clock
        self._seen = self._look()
        self.facts, self.context = self._load()
        for complaint in self.facts.complaints(host, clock.now()):
            _log.error("site_certificate_is_of_no_use", extra={"file": str(chain_path), "reason": complaint})

    def reload(self) -> bool:
        """Take the files as they are now; False, and the ones before stay, if browsers would not take them."""
        self._seen = self._look()
        try:
            facts, context = self._load()
        except BadInput as error:
            return self._refused(error.detail)
        complaints = facts.complaints(self._host, self._clock.now())
        if complaints:
            return self._refused("; ".join(complaints))
        self.facts, self.context = facts, context
        _log.info("site_certificate_loaded", extra={"file": str(self._paths[0]), "ends": _date(facts.not_after)})
        return True

    async def watch(self) -> None:
        """Reload whenever a file has changed, until cancelled. A pair that is half replaced is refused and looked at again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._look() != self._seen:
                self.reload()

    def _load(self) -> tuple[Facts, ssl.SSLContext]:
        chain_path, key_path = self._paths
        facts = read(chain_path)
        check_key_file(key_path)
        return facts, tls.public_context(chain_path, key_path)

    def _refused(self, reason: str) -> bool:
        _log.error("site_certificate_refused", extra={"file": str(self._paths[0]), "reason": reason})
        return False

    def _look(self) -> tuple[tuple[int, int, int, int] | None, ...]:
        return tuple(_state(path) for path in self._paths)


def _state(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _covers(name: str, host: str) -> bool:
    """RFC 6125: a star stands for exactly one first label; addresses are compared as addresses."""
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        pass
    name, host = name.lower(), host.lower()
    return name == host or (name.startswith("*.") and name[1:] == host[host.find(".") :] and not host.startswith("."))


def _date(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
