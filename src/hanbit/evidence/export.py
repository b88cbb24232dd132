"""Makes the payment server's evidence file of one payment out of the book: what names it, and the proofs that the log holds it."""

import json
from collections.abc import Iterable
from typing import Final

from hanbit.crypto import certificates, merkle
from hanbit.db.reading import Reader, Row
from hanbit.db.rows import Connection
from hanbit.db.schema import OF_KEYS
from hanbit.evidence import log, store
from hanbit.evidence.bundle import Approval, Attempt, Bundle, Continues, Kept, LeafProof, LedgerLine, Passkey, chains_of
from hanbit.evidence.record import rebuild
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound, ProtocolViolation, Unavailable
from hanbit.protocols.checkpoint import Checkpoint, read_held
from hanbit.protocols.dual_signature.messages import AuthorizationRequest
from hanbit.protocols.keys import SessionAuthority, record_number
from hanbit.protocols.signed import peek_chain, peek_claims, peek_kid

_COLUMNS: Final = "m.leaf, m.place, m.hash, m.typ, m.at, m.signer_revoked_at, h.segment, m.payload, m.signature"
_FROM: Final = f"SELECT {_COLUMNS} FROM messages m JOIN headers h ON h.id = m.header "  # noqa: S608 - our own columns
_OF_PAYMENT: Final = _FROM + "WHERE m.merchant = ? AND m.tid = ? ORDER BY m.leaf, m.place LIMIT 3000"
_OF_KEYS: Final = f"{_FROM}WHERE {OF_KEYS} AND m.merchant = ? AND m.leaf < ? ORDER BY m.leaf, m.place LIMIT 10001"
_RECORD: Final = _FROM + "WHERE m.jti = ? AND m.iss = ?"
_ASKED: Final = _FROM + "WHERE m.tid = '' AND m.merchant = ? AND m.hash = ?"
_LIST: Final = f"{_FROM}WHERE {OF_KEYS} AND m.merchant = '' AND m.leaf < ? AND m.typ = 'hanbit-crl' ORDER BY m.leaf DESC LIMIT 4"
_OWNERS: Final = "SELECT merchant FROM payments WHERE tid = ? ORDER BY merchant LIMIT 100"
_ENTRIES: Final = "SELECT number, id, kind, amount, currency, at FROM entries WHERE payment = ? ORDER BY number LIMIT 3000"


def owners(reader: Reader, tid: str) -> list[str]:
    """The merchants that have a payment of this tid: nearly always one, but each merchant chooses its own."""
    return [row["merchant"] for row in reader.all(_OWNERS, tid)]


def last_leaf(reader: Reader, merchant: str, tid: str) -> int:
    """The last leaf that names a message of this payment; a checkpoint must be beyond it. NotFound without any."""
    row = reader.one("SELECT max(leaf) AS leaf FROM messages WHERE merchant = ? AND tid = ?", merchant, tid)
    if row is None or row["leaf"] is None:
        raise NotFound(f"no payment {tid} of {merchant or 'any merchant'}")
    return int(row["leaf"])


def checkpoint_size(reader: Reader) -> int:
    """How many leaves the last signed checkpoint covers; 0 before the first."""
    row = reader.one("SELECT max(size) AS size FROM checkpoints")
    return 0 if row is None or row["size"] is None else int(row["size"])


def export(reader: Reader, *, operator: str, merchant: str, tid: str, held: str | None = None) -> Bundle:
    """The file's content, from one snapshot of the book; `held` is a checkpoint to which the file shall be linked.

    NotFound where there is nothing, Unavailable where no checkpoint covers it yet.
    """
    with reader.snapshot():
        return _Export(reader, operator, merchant, tid).bundle(held)


class _Export:
    """One payment's rows and the leaves that name them."""

    def __init__(self, reader: Reader, operator: str, merchant: str, tid: str) -> None:
        self._reader, self._operator, self._merchant, self._tid = reader, operator, merchant, tid
        self._gateway = ids.urn(operator, "gateway")
        self._leaves: set[int] = set()

    def bundle(self, held: str | None) -> Bundle:
        """Everything, with the leaves last: they are what the rest has asked for."""
        reader = self._reader
        last = last_leaf(reader, self._merchant, self._tid)
        row = reader.one("SELECT hash FROM checkpoints WHERE size > ? ORDER BY size DESC LIMIT 1", last)
        compact = None if row is None else store.compact(reader, "", "", row["hash"])
        if compact is None:
            raise Unavailable("no checkpoint covers this payment yet")
        checkpoint = read_held(compact)
        messages = self._kept(reader.all(_OF_PAYMENT, self._merchant, self._tid))
        keys = self._keys(messages, checkpoint.size)
        lists = self._lists((*messages, *keys))
        payment = reader.one("SELECT id FROM payments WHERE merchant = ? AND tid = ?", self._merchant, self._tid)
        name = "" if payment is None else str(payment["id"])
        approval, ledger = self._approval(name), self._ledger(name)
        return Bundle(
            source="gateway",
            operator=self._operator,
            merchant=self._merchant,
            tid=self._tid,
            messages=tuple(messages),
            keys=tuple(keys),
            lists=tuple(lists),
            certificates=self._chains((*messages, *keys, *lists)),
            approval=approval,
            ledger=ledger,
            leaves=self._proofs(checkpoint.size),
            checkpoint=compact,
            continues=None if held is None else self._continues(held, checkpoint),
        )

    def _kept(self, rows: Iterable[Row]) -> list[Kept]:
        found = []
        for row in rows:
            self._leaves.add(row["leaf"])
            compact = rebuild(row["segment"], row["payload"], row["signature"])
            revoked_at = row["signer_revoked_at"]
            found.append(Kept(typ=row["typ"], at=row["at"], compact=compact, leaf=row["leaf"], place=row["place"], revoked_at=revoked_at))
        return found

    def _keys(self, messages: list[Kept], size: int) -> list[Kept]:
        """How the merchant's keys follow one another, and the record of issue of every certificate under which something is signed."""
        found = {row["hash"]: row for row in self._reader.all(_OF_KEYS, self._merchant, size)}
        waiting, seen = {peek_kid(kept.compact) for kept in messages}, set[str]()
        waiting |= {_session_authority(kept.compact) for kept in messages if kept.typ == AuthorizationRequest.TYP}
        while waiting:  # a record is signed too, under a certificate of which there is a record
            kid = waiting.pop()
            seen.add(kid)
            for row in self._reader.all(_RECORD, record_number(kid), self._gateway):
                if row["leaf"] >= size:
                    continue
                found[row["hash"]] = row
                asked = (
                    self._reader.all(_ASKED, self._merchant, json.loads(row["payload"])["req"])
                    if row["typ"] == SessionAuthority.TYP
                    else ()
                )
                found |= {one["hash"]: one for one in asked}  # the merchant's own, under the key that says who it is
                waiting |= {peek_kid(rebuild(one["segment"], one["payload"], one["signature"])) for one in (row, *asked)} - seen
        return self._kept(sorted(found.values(), key=lambda row: (row["leaf"], row["place"])))

    def _lists(self, messages: Iterable[Kept]) -> list[Kept]:
        """The revocation lists that were current when each message was stored."""
        found: dict[str, Row] = {}
        for leaf in sorted({kept.leaf for kept in messages if kept.leaf is not None}):
            authorities: set[str] = set()
            for row in self._reader.all(_LIST, leaf):
                authority = json.loads(row["payload"])["authority"]
                if authority not in authorities:
                    authorities.add(authority)
                    found[row["hash"]] = row
        return self._kept(sorted(found.values(), key=lambda row: (row["leaf"], row["place"])))

    def _chains(self, messages: Iterable[Kept]) -> tuple[tuple[str, ...], ...]:
        """The chains of what carries none: orders."""
        chains = []
        for kid in {peek_kid(kept.compact) for kept in messages if not peek_chain(kept.compact)}:
            row = self._reader.one("SELECT chain FROM certificates WHERE kid = ?", kid)
            if row is not None:
                chains.append(tuple(json.loads(row["chain"])))
        return chains_of(chains)

    def _approval(self, payment: str) -> Approval | None:
        row = self._reader.one("SELECT * FROM attempts WHERE payment = ? AND result = 'held'", payment)
        if row is None:
            return None
        attempt = Attempt(**dict(row))
        leaf = self._naming("attempts", [payment, attempt.number])
        return Approval(leaf=leaf, attempt=attempt, passkey=self._passkey(attempt))

    def _passkey(self, attempt: Attempt) -> Passkey | None:
        if attempt.method != "passkey":
            return None
        name = str(json.loads(attempt.auth_value or "{}")["id"])  # verified when it was stored
        row = self._reader.one("SELECT public, created_at FROM devices WHERE id = ?", name)
        if row is None:
            raise NotFound(f"passkey {name}")
        key = json.loads(row["public"])["key"]
        return Passkey(id=name, key=key, registered_at=row["created_at"], leaf=self._naming("devices", [name]))

    def _ledger(self, payment: str) -> tuple[LedgerLine, ...]:
        return tuple(
            LedgerLine(
                number=row["number"],
                id=row["id"],
                kind=row["kind"],
                amount=str(row["amount"]),
                currency=row["currency"],
                at=row["at"],
                leaf=self._naming("entries", [row["number"]]),
            )
            for row in self._reader.all(_ENTRIES, payment)
        )

    def _naming(self, table: str, key: list[str | int]) -> int:
        """A leaf that names this row: nearly always one that the messages have brought, else the first in the log."""
        text = json.dumps([table, key], separators=(",", ":"))[:-1] + ","
        for leaf in sorted(self._leaves):
            row = self._reader.one("SELECT leaf FROM log WHERE leaf = ? AND replace(data, ?, '') <> data", leaf, text)
            if row is not None:
                return int(row["leaf"])
        # Only in a book that is older than its log: its rows stand in the first leaves, each table in its own.
        row = self._reader.one("SELECT leaf FROM log WHERE replace(data, ?, '') <> data ORDER BY leaf LIMIT 1", text)
        if row is None:
            raise NotFound(f"no leaf of the log names {table} {key}: hanbit evidence check says more")
        self._leaves.add(row["leaf"])
        return int(row["leaf"])

    def _proofs(self, size: int) -> tuple[LeafProof, ...]:
        node = log.nodes(self._reader.connection)
        return tuple(
            LeafProof(leaf=leaf, data=_data(self._reader.connection, leaf), path=_text(merkle.inclusion_proof(leaf, size, node)))
            for leaf in sorted(self._leaves)
        )

    def _continues(self, held: str, checkpoint: Checkpoint) -> Continues:
        older, newer = sorted((read_held(held).size, checkpoint.size))
        try:
            path = log.consistency_proof(self._reader, older, newer)
        except NotFound as error:
            raise ProtocolViolation("consistency", "this book does not hold so much as that checkpoint says") from error
        return Continues(checkpoint=held, path=path)


def _session_authority(request: str) -> str:
    """The kid of the authority above the temporary key in a merchant's request; empty where that is no certificate of a session."""
    try:
        chain = peek_chain(str(peek_claims(request)["dual"]))
    except ProtocolViolation:  # a request that was declined may carry anything
        return ""
    return certificates.kid(chain[1]) if len(chain) > 1 else ""


def _data(connection: Connection, leaf: int) -> str:
    return str(connection.execute("SELECT data FROM log WHERE leaf = ?", (leaf,)).fetchone()[0])


def _text(path: list[bytes]) -> tuple[str, ...]:
    return tuple(map(ids.encode_base64url, path))
