"""Key continuity: from the key on a merchant's key card, renewal by renewal, to the key in use; checked offline from bytes and the root.

    key card ── key record (both signed) ──▶ first key ── renewal signed under it ──▶ certificates ──▶ second key ── … ──▶ key in use
                                                one-time code ──▶ certificates ──▶ a key for which only the operator's word stands

The operator can issue a certificate to whom it likes. It cannot make a merchant's old key sign a renewal: a key that hangs on the card by
renewals was wanted by whoever held the key on the card. A key that came by a code hangs on nothing, and is reported so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from hanbit.crypto.certificates import VerifiedCertificate
from hanbit.crypto.keys import thumbprint
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols.keys import (
    Asked,
    Certificates,
    KeyRecord,
    KeyRecordConfirmation,
    Recorded,
    Renewal,
    check_answer,
    read_certificates,
    read_key_record_confirmation,
    read_renewal,
)
from hanbit.protocols.signed import PinnedTrust, SignedMessage, peek_chain, peek_typ, verify_as_signed

MESSAGES_MAX: Final = 10_000
SIGNING: Final = "merchant-sign"


@dataclass(frozen=True, slots=True)
class KeyLink:
    """One signing key of the merchant and on what it rests."""

    kid: str
    thumbprint: str
    since: int
    """When its certificate was issued, by the gateway's clock."""
    until: int
    how: Literal["card", "renewal", "code"]
    """`card`: it is the key on the card; `renewal`: asked for under `previous`; `code`: the operator alone vouches for it."""
    previous: str | None
    """The kid of the key under which it was asked for."""
    continuous: bool
    """True if the links lead back to the card."""
    recorded: bool
    """True if merchant and gateway both signed the record of this first key."""


@dataclass(frozen=True, slots=True)
class Continuity:
    """Every signing key that was issued in the merchant's name up to a moment, oldest first."""

    merchant: str
    links: tuple[KeyLink, ...]
    problems: tuple[str, ...]
    """Messages that do not verify, in the order in which they were given."""

    @property
    def broken_at(self) -> tuple[KeyLink, ...]:
        """Where the merchant enrolled (or somebody was enrolled in its name) by a code that the card does not know."""
        return tuple(link for link in self.links if link.how == "code")

    def vouches(self, kid: str) -> bool:
        """Whether this key hangs on the key card, so that the operator alone could not have made it the merchant's."""
        return any(link.kid == kid and link.continuous for link in self.links)


def verify_continuity(messages: Iterable[str], *, root: bytes, merchant: str, card: str | None, at: int) -> Continuity:
    """Follow the merchant's signing keys; `merchant` is its URN, `card` the thumbprint on the key card (None: there is no card).

    `messages` are the compact bytes of key-record, key-record-confirmation, renewal and certificates messages in any order, from whoever
    has them: merchant, gateway or an evidence file. What does not verify is named among the problems and carries nothing. What was
    signed after `at` is left out.
    """
    reader = _Reader(root, merchant, at)
    for number, compact in enumerate(messages):
        if number >= MESSAGES_MAX:
            raise ProtocolViolation("size", f"more than {MESSAGES_MAX} messages about keys")
        try:
            reader.take(compact)
        except ProtocolViolation as error:
            reader.problems.append(f"message {number + 1}: {error}")
    return Continuity(merchant, reader.links(card), tuple(reader.problems))


class _Reader:
    """Sorts and verifies what is given, then joins it."""

    def __init__(self, root: bytes, merchant: str, at: int) -> None:
        operator = merchant.split(":")[2]
        self.problems: list[str] = []
        self._root, self._merchant, self._at = root, merchant, at
        self._gateway = ids.urn(operator, "gateway")
        self._of_gateway = PinnedTrust(root, operator, urn=self._gateway)
        self._of_merchant = PinnedTrust(root, operator, urn=merchant)
        self._records: dict[str, Recorded] = {}
        self._renewals: dict[str, str] = {}
        self._first: dict[str, SignedMessage[KeyRecord]] = {}
        self._confirmations: list[str] = []

    def take(self, compact: str) -> None:
        """Keep one message under what it is."""
        typ = peek_typ(compact)
        if typ == Certificates.TYP:
            recorded = read_certificates(
                compact, trust=self._of_gateway, root=self._root, gateway=self._gateway, owner=self._merchant, at=self._at
            )
            self._records[recorded.leaves[0].kid] = recorded
        elif typ == Renewal.TYP:
            self._renewals[ids.digest(compact.encode("ascii"))] = compact
        elif typ == KeyRecord.TYP:
            message = verify_as_signed(compact, KeyRecord, trust=self._of_merchant, audience=self._gateway, at=self._at)
            if message.claims.thumbprint != thumbprint(self._of_merchant.key(message.kid, peek_chain(compact), message.claims.iat).public):
                raise ProtocolViolation("thumbprint", "not of the key that signed the record")
            self._first[message.hash] = message
        elif typ == KeyRecordConfirmation.TYP:
            self._confirmations.append(compact)
        else:
            raise ProtocolViolation("typ", f"{typ} says nothing of keys")

    def links(self, card: str | None) -> tuple[KeyLink, ...]:
        """Oldest first: a key can only hang on one that is older."""
        recorded_kids = self._confirmed()
        links: dict[str, KeyLink] = {}
        for record in sorted(self._records.values(), key=lambda item: item.message.claims.iat):
            for leaf in record.leaves:
                if leaf.purpose == SIGNING:
                    links[leaf.kid] = self._link(record, leaf, links, card, both=leaf.kid in recorded_kids)
        return tuple(links.values())

    def _link(self, record: Recorded, leaf: VerifiedCertificate, known: dict[str, KeyLink], card: str | None, *, both: bool) -> KeyLink:
        previous = self._asked_under(record, known) if record.message.claims.how == "renewal" else None
        is_card = card is not None and thumbprint(leaf.public) == card
        how: Literal["card", "renewal", "code"] = "renewal" if previous is not None else "code"
        return KeyLink(
            kid=leaf.kid,
            thumbprint=thumbprint(leaf.public),
            since=record.message.claims.iat,
            until=leaf.not_after,
            how="card" if is_card else how,
            previous=None if previous is None else previous.kid,
            continuous=is_card or (previous is not None and previous.continuous),
            recorded=both,
        )

    def _asked_under(self, record: Recorded, known: dict[str, KeyLink]) -> KeyLink | None:
        """The key under which these very certificates were asked for, if that can be shown; verified as of when they were issued."""
        claims = record.message.claims
        compact = self._renewals.get(claims.req or "")
        if compact is None:
            self.problems.append(f"certificates {record.message.hash}: the renewal that they answer is not here")
            return None
        try:
            # The gateway says when it came: a renewal under a key that had expired by then was not its holder's to ask.
            asked: Asked = read_renewal(
                compact, trust=self._of_merchant, gateway=self._gateway, merchant=self._merchant, at=claims.iat, sent=False
            )
            check_answer(record, asked.message.hash, asked.publics)
        except ProtocolViolation as error:
            self.problems.append(f"renewal {claims.req}: {error}")
            return None
        if asked.message.kid not in known:
            self.problems.append(f"renewal {claims.req}: signed under a key of which no certificate is recorded")
            return None
        return known[asked.message.kid]

    def _confirmed(self) -> set[str]:
        """The kids of first keys whose record both sides signed."""
        kids = set()
        for compact in self._confirmations:
            for message in self._first.values():
                try:
                    read_key_record_confirmation(compact, message.hash, message.claims, trust=self._of_gateway, at=self._at)
                except ProtocolViolation:
                    continue
                kids.add(message.kid)
        return kids
