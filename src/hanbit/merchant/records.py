"""What a shop keeps about keys, one file a message: the record of its first key, each certificate issued in its name, revocation lists.

    records/key-record.jws, records/key-record-confirmation.jws      both sides' signatures under the first key
    records/certificates-<hash>.jws                                  every certificate that the gateway told us of
    records/renewal-<hash>.jws                                       what we asked for
    records/session-authority-<hash>.jws                             each certificate of a session authority
    records/crl-<authority>.jws                                      the latest list

Together with the root these files are what `protocols.continuity` and a court need; nothing in them is secret.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hanbit.crypto import certificates, keys
from hanbit.crypto.keys import thumbprint
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation, Unavailable
from hanbit.merchant import files
from hanbit.merchant.session_keys import SessionKeys
from hanbit.protocols import keys as role
from hanbit.protocols.keys import Listed
from hanbit.protocols.signed import PinnedTrust, RegisteredKey, Trust, peek_chain

FOLDER: Final = "records"
KEY_RECORD: Final = "key-record"
KEY_RECORD_CONFIRMATION: Final = "key-record-confirmation"
SESSION_AUTHORITY: Final = "session-authority"
FILES_MAX: Final = 2_000
"""A renewal leaves two files, every two months."""
_BYTES_MAX: Final = 64 * 1024
_WHENEVER: Final = 253_402_300_799
_AUTHORITIES: Final = ("gateway", "merchant")
_log = logging.getLogger("hanbit.merchant.keys")


def keep(directory: Path, name: str, compact: str) -> None:
    """Keep a message durably under a name; one that was kept under it gives way."""
    folder = directory / FOLDER
    files.make_private(folder)
    path = folder / f"{name}.jws"
    if not path.exists() and sum(1 for _ in folder.iterdir()) >= FILES_MAX:
        raise Unavailable(f"{folder} is full: {FILES_MAX} messages about keys")
    files.write_private(path, compact.encode("ascii"))


def read(directory: Path, name: str) -> str | None:
    """A kept message, or None."""
    path = directory / FOLDER / f"{name}.jws"
    try:
        with path.open("r", encoding="ascii") as file:
            return file.read(_BYTES_MAX)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path}: {error}") from error


def about_keys(directory: Path) -> list[str]:
    """Every kept message that says how the shop's keys follow one another, for `verify_continuity` and for an evidence file."""
    names = sorted(path.stem for path in (directory / FOLDER).glob("*.jws") if not path.name.startswith(("crl-", SESSION_AUTHORITY)))
    return [compact for name in names if (compact := read(directory, name)) is not None]


# --- certificates in the shop's name ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A certificate in the shop's name, as the gateway told of it or as it lies in the shop's folder."""

    kid: str
    purpose: str
    thumbprint: str
    how: str
    """`code`, `renewal`, `request` (a session authority); empty where the gateway never told of it."""
    issued_at: int
    not_after: int
    serial: int
    in_use: bool
    asked: bool
    """False for one whose key this shop never had: somebody else can speak in its name."""


def own_certificates(directory: Path, *, at: int) -> list[OwnCertificate]:
    """Every certificate in the shop's name, newest first; ProtocolViolation if a kept record is not the gateway's."""
    registration = files.read_registration(directory)
    root = certificates.load_chain_pem(directory / files.ROOT)[0]
    trust = PinnedTrust(root, registration.operator, urn=registration.gateway)
    sessions = SessionKeys.load(directory)
    ours = own_thumbprints(directory) | sessions.own_thumbprints()
    current = {certificates.kid(certificates.load_chain_pem(files.chain_path(directory, purpose))[0]) for purpose in files.PURPOSES}
    found: dict[str, OwnCertificate] = {}
    for path in sorted((directory / FOLDER).glob("certificates-*.jws")):
        recorded = role.read_certificates(
            read(directory, path.stem) or "",
            trust=trust,
            root=root,
            gateway=registration.gateway,
            owner=registration.merchant,
            at=at,
        )
        claims = recorded.message.claims
        for leaf in recorded.leaves:
            name = thumbprint(leaf.public)
            found[leaf.kid] = OwnCertificate(
                kid=leaf.kid,
                purpose=leaf.purpose,
                thumbprint=name,
                how=claims.how,
                issued_at=claims.iat,
                not_after=leaf.not_after,
                serial=leaf.serials[0],
                in_use=leaf.kid in current,
                asked=name in ours,
            )
    for path in sorted((directory / FOLDER).glob(f"{SESSION_AUTHORITY}-*.jws")):
        told = role.read_session_authority(
            read(directory, path.stem) or "",
            trust=trust,
            root=root,
            gateway=registration.gateway,
            owner=registration.merchant,
            at=at,
        )
        authority, name = told.certificate, thumbprint(told.certificate.public)
        found[authority.kid] = OwnCertificate(
            kid=authority.kid,
            purpose=SESSION_AUTHORITY,
            thumbprint=name,
            how="request",
            issued_at=told.message.claims.iat,
            not_after=authority.not_after,
            serial=authority.serials[0],
            in_use=sessions.authority is not None and certificates.kid(sessions.authority.chain[0]) == authority.kid,
            asked=name in ours,
        )
    for own in _in_folders(directory, current):
        found.setdefault(own.kid, own)
    return sorted(found.values(), key=lambda item: (-item.issued_at, item.purpose))


def own_thumbprints(directory: Path) -> frozenset[str]:
    """The names of all keys that this shop ever made; the certificates stay when the private halves go."""
    names = set()
    for folder in files.generation_folders(directory):
        for purpose in files.PURPOSES:
            chain, key = files.chain_file(folder, purpose), files.key_file(folder, purpose)
            if chain.exists():
                names.add(thumbprint(certificates.public_of(certificates.load_chain_pem(chain)[0])))
            elif key.exists():
                names.add(thumbprint(keys.load_key(key).public_key()))
    return frozenset(names)


def _in_folders(directory: Path, current: set[str]) -> list[OwnCertificate]:
    found = []
    for folder in files.generation_folders(directory):
        for purpose in files.PURPOSES:
            path = files.chain_file(folder, purpose)
            if not path.exists():
                continue
            leaf = certificates.load_chain_pem(path)[0]
            kid, (not_before, not_after) = certificates.kid(leaf), certificates.validity(leaf)
            name, serial = thumbprint(certificates.public_of(leaf)), certificates.serial_of(leaf)
            found.append(
                OwnCertificate(
                    kid, purpose, name, "", certificates.issued_at(not_before), not_after, serial, in_use=kid in current, asked=True
                )
            )
    return found


# --- lists of the revoked ---------------------------------------------------------------------------------------------------------------


class Lists:
    """The latest revocation list of each authority; without a current one of the gateway's this shop believes the gateway nothing."""

    def __init__(self, directory: Path, registration: files.Registration) -> None:
        self._directory = directory
        self._gateway = registration.gateway
        root = certificates.load_chain_pem(directory / files.ROOT)[0]
        # A list is believed for its authority's signature and its number: who signed the message around it only hands it over.
        self._trust = PinnedTrust(root, registration.operator, urn=registration.gateway)
        self._merchant_authority = certificates.load_chain_pem(files.chain_path(directory, "merchant-sign"))[1]
        self._held: dict[str, Listed] = {}
        for authority in _AUTHORITIES:
            compact = read(directory, f"crl-{authority}")
            if compact is not None:
                self._held[authority] = self._read(compact, _WHENEVER)  # verified as of when it was signed

    def take(self, unverified: str, at: int) -> None:
        """A list came: verified, current, and not older than the one that is held; then it is in force and durable."""
        new = self._read(unverified, at)
        new.content.check_current(at)
        authority = new.message.claims.authority
        known = self._held.get(authority)
        if known is not None and known.message.compact == unverified:
            return
        if known is not None and new.content.number <= known.content.number:
            raise ProtocolViolation("crl_number", "an older list, or another one under the same number")
        self._held[authority] = new
        try:
            keep(self._directory, f"crl-{authority}", unverified)
        except (OSError, Unavailable):  # in force all the same: the next one is held again, or comes when the line does
            _log.exception("the list of revoked certificates could not be written")

    def revoked(self) -> frozenset[int]:
        """The serial numbers of all revoked certificates that are known of."""
        return frozenset().union(*(listed.content.serials for listed in self._held.values()))

    def fault(self, at: int) -> str | None:
        """Why the gateway's messages are not believed at this moment; None if they are."""
        held = self._held.get("gateway")
        if held is None:
            return "no list of revoked certificates has come from the payment server yet"
        if at > held.content.next_update:
            return f"the list of revoked certificates ended {(at - held.content.next_update) // 3600} hours ago"
        return None

    def guard(self, trust: Trust) -> "Guarded":
        """The same trust, for whatever decides about orders: it holds only under a current list."""
        return Guarded(trust, self)

    def _read(self, unverified: str, at: int) -> Listed:
        chain = peek_chain(unverified)
        if len(chain) < 2:  # noqa: PLR2004 - the leaf and its authority
            raise ProtocolViolation("header", "x5c")
        authorities = {"gateway": chain[1], "merchant": self._merchant_authority}
        return role.read_crl(unverified, trust=self._trust, gateway=self._gateway, authorities=authorities, at=at)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A trust that says Unavailable, not no, where it cannot know who was revoked: the gateway asks again, and nothing is refused."""

    trust: Trust
    lists: Lists

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The key under a current list."""
        fault = self.lists.fault(at)
        if fault is not None:
            raise Unavailable(fault)
        return self.trust.key(kid, chain, at)


def key_card_figures(directory: Path) -> tuple[str, int]:
    """Thumbprint of the first signing key and when its certificate was issued: what stands on the key card, whatever was renewed since."""
    leaf = certificates.load_chain_pem(files.chain_file(files.generation_folder(directory, 1), "merchant-sign"))[0]
    return thumbprint(certificates.public_of(leaf)), certificates.issued_at(certificates.validity(leaf)[0])


def renewal_name(compact: str) -> str:
    """The name under which a renewal is kept."""
    return f"renewal-{ids.digest(compact.encode('ascii'))}"
