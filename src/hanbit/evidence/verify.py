"""`hanbit evidence verify`: a stranger holds an evidence file against the operator's root, step by step, from bytes alone. Pure, offline.

A step that fails ends the check, and its number says where. What is missing, and what rests on somebody's word only, fails nothing: the
conclusions say it (`conclusions.py`). Only one failure lets the check go on: a merchant's key that does not hang on the key card, because
then who signed what is still worth knowing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, NoReturn, TypeVar

from hanbit.crypto import certificates
from hanbit.crypto.certificate_paths import UNREADABLE, read_root
from hanbit.crypto.certificates import RevocationList, VerifiedCertificate
from hanbit.crypto.keys import thumbprint
from hanbit.evidence import bundle as files
from hanbit.evidence import conclusions
from hanbit.evidence.bundle import Bundle, Kept, printable
from hanbit.evidence.cancellations import is_approved
from hanbit.evidence.check import Stored, check_chain, verify_stored
from hanbit.evidence.conclusions import Conclusion, Findings
from hanbit.evidence.file_claims import check_customer, check_halves, check_lines, check_money
from hanbit.evidence.file_log import FileLog
from hanbit.evidence.file_trust import FileTrust
from hanbit.evidence.purchases import approved, asked_authority
from hanbit.kernel import ids
from hanbit.kernel.errors import HanbitError, ProtocolViolation
from hanbit.protocols import checkpoint as checkpoints
from hanbit.protocols.cancellation.messages import Cancel, CancelConfirmation, CancelRefusal
from hanbit.protocols.continuity import verify_continuity
from hanbit.protocols.dual_signature.messages import Authorization, AuthorizationRequest
from hanbit.protocols.fields import INSTANT_MAX, Message
from hanbit.protocols.keys import Certificates, Crl, SessionAuthority, SessionAuthorityRequest
from hanbit.protocols.redirect.messages import Closed, Keys, Notice, Order, Settled, Voided
from hanbit.protocols.signed import SignedMessage, decode_chain, peek_chain, peek_claims, peek_kid, peek_typ

T = TypeVar("T")
DETAIL_MAX: Final = 4_000
"""Characters of what a step says: a rule may quote what somebody wrote."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at: what was found, or why it cannot be true."""

    number: int
    what: str
    detail: str
    passed: bool


@dataclass(slots=True)
class Report:
    """Every step in order, and what follows; `failed` is the number of the first step that failed."""

    steps: list[Step] = field(default_factory=list)
    conclusions: tuple[Conclusion, ...] = ()
    failed: int | None = None

    @property
    def verified(self) -> bool:
        """Whether every step passed."""
        return self.failed is None


Say = Callable[[Step], None]


def verify(unverified: bytes, *, root: bytes, card: str | None = None, held: str | None = None, say: Say = lambda _step: None) -> Report:
    """Check an evidence file, or a signed message by itself (a receipt), under this root; no error is raised for what somebody wrote.

    `card` is the thumbprint on the merchant's key card, `held` a checkpoint that somebody else than whoever made the file holds.
    """
    verifier = _Verifier(root, card, held, say)
    try:
        if unverified.lstrip()[:1] == b"{":
            verifier.file(unverified)
        else:
            verifier.message(unverified)
    except _Failed:
        pass
    else:
        verifier.report.conclusions = conclusions.draw(verifier.findings)
    return verifier.report


class _Failed(Exception):
    """Not an error of anybody's: it ends the steps."""


@dataclass(frozen=True, slots=True)
class _List:
    """A revocation list of the file, and from which leaf on it was known."""

    authority: str
    leaf: int
    content: RevocationList


class _Verifier:
    """The steps, with what they have found so far."""

    def __init__(self, root: bytes, card: str | None, held: str | None, say: Say) -> None:
        self.report = Report()
        self.findings = Findings()
        self._root, self._card, self._held, self._say = root, card, held, say
        self._lists: list[_List] = []
        self._authorities: dict[str, bytes | None] = {}
        self._log = FileLog()
        self._chain: list[SignedMessage[Message]] = []
        self._records: dict[str, Certificates | SessionAuthority] = {}
        self._own_authorities: dict[str, str] = {}
        """Thumbprint of a session authority's key → the kid of the merchant's key under which it was asked for."""
        self._unlisted: set[str] = set()

    # --- the two kinds of file --------------------------------------------------------------------------------------------------------

    def file(self, unverified: bytes) -> None:
        """An evidence file."""
        bundle = self._step("the file", lambda: self._form(unverified))
        self._bundle = bundle
        self._step("the root", lambda: self._operator(bundle.operator))
        if bundle.checkpoint is not None:
            self._step("the checkpoint", lambda: self._checkpoint(bundle.checkpoint or ""))
        elif bundle.source == "gateway":
            self._fail("the checkpoint", "the payment server's file has none")
        if self._held is not None:
            self._step("the checkpoint that you hold", lambda: self._continues(self._held or ""))
        if bundle.source == "gateway":
            self._step("the log", lambda: self._leaves(bundle))
        for kept in bundle.lists:
            self._step(kept.typ, lambda kept=kept: self._list(kept))  # type: ignore[misc]  # a lambda's default
        self._step("the merchant's keys", lambda: self._keys(bundle), soft=True)
        for kept in bundle.messages:
            self._step(kept.typ, lambda kept=kept: self._message(kept))  # type: ignore[misc]  # a lambda's default
        self._step("how the messages hang together", lambda: self._links(bundle))
        if any(is_approved(message.claims) for message in self._chain):
            self._step("the dual signature", lambda: self._dual_signature(bundle))
        if bundle.source == "gateway":
            self._step("the customer", lambda: (check_customer(bundle.approval, self._chain, self._log, self.findings), None))
            self._step("the money", lambda: (check_money(bundle.ledger, self._chain, self._log), None))
            self._step("nothing beside", lambda: self._nothing_beside(bundle))
        elif bundle.approval is not None or bundle.ledger or bundle.leaves or bundle.lists:
            self._fail("the merchant's book", "a merchant's file knows nothing of the payment server's book")
        if (lines := bundle.lines) is not None:
            self._step("what was ordered", lambda: (check_lines(lines, self._chain), None))
        if (oi := bundle.order_information) is not None:
            self._step("the merchant's half", lambda: (check_halves(lines, oi, self.findings), None))
        self.findings.merchant = bundle.merchant_urn
        self.findings.messages = tuple(self._chain)
        self.findings.unlisted = tuple(sorted(self._unlisted))
        self.findings.source = bundle.source

    def message(self, unverified: bytes) -> None:
        """A signed message by itself: a receipt as the customer keeps it."""
        compact = self._step("the file", lambda: self._compact(unverified))
        operator = read_root(self._root).urn.operator
        self._trust = FileTrust(self._root, operator)
        signed_at = peek_claims(compact).get("iat")
        at = signed_at if type(signed_at) is int and 0 <= signed_at <= INSTANT_MAX else 0
        self._step(f"{printable(peek_typ(compact))}", lambda: self._signed(Kept(typ=peek_typ(compact), at=at, compact=compact)))
        if self._held is not None:
            self._fail("the checkpoint that you hold", "a message by itself stands in no log: ask for the evidence file")
        self._step("the merchant's keys", self._own_key, soft=True)
        self.findings.messages = tuple(self._chain)
        self.findings.unlisted = tuple(sorted(self._unlisted))
        self.findings.source = "message"

    # --- one step each ----------------------------------------------------------------------------------------------------------------

    def _form(self, unverified: bytes) -> tuple[str, Bundle]:
        bundle = files.read(unverified)
        for compact in (kept.compact for kept in (*bundle.messages, *bundle.keys, *bundle.lists)):
            peek_typ(compact)
        text = f"evidence of payment {bundle.merchant} {bundle.tid} from the {_WHO[bundle.source]}, {len(unverified)} bytes, unaltered"
        return text, bundle

    def _compact(self, unverified: bytes) -> tuple[str, str]:
        try:
            compact = unverified.decode("ascii").strip()
        except UnicodeError as error:
            raise ProtocolViolation("form", "neither an evidence file nor a signed message") from error
        typ = peek_typ(compact)
        return f"one signed message, {printable(typ)}; nothing but itself says when it was signed", compact

    def _operator(self, operator: str) -> tuple[str, None]:
        content = read_root(self._root)
        if content.urn.operator != operator:
            raise ProtocolViolation("certificate_root", "the root belongs to another operator")
        self._trust = FileTrust(self._root, operator)
        for chain in self._bundle.certificates:
            self._trust.bring(decode_chain(chain))
        return f"of operator {operator}; SHA-256 of the certificate {certificates.kid(self._root)}", None

    def _checkpoint(self, compact: str) -> tuple[str, None]:
        message = checkpoints.verify_checkpoint(compact, trust=self._trust, operator=self._bundle.operator)
        self.findings.checkpoint = claims = message.claims
        said = f"signed by {claims.iss} at {_time(claims.iat)}: {claims.size} leaves until {_time(claims.time)}, root {claims.root}"
        return said, None

    def _continues(self, held: str) -> tuple[str, None]:
        mine, other = self.findings.checkpoint, self._bundle.continues
        if mine is None:
            raise ProtocolViolation("checkpoint", "the file has no checkpoint to hold yours against")
        older = checkpoints.verify_checkpoint(held.strip(), trust=self._trust, operator=self._bundle.operator).claims
        if (older.size, older.root) != (mine.size, mine.root):
            if other is None or other.checkpoint != held.strip():
                raise ProtocolViolation(
                    "consistency", "the file does not show that its log goes on from yours: export it again with --checkpoint FILE"
                )
            first, second = sorted((older, mine), key=lambda claims: claims.size)
            checkpoints.check_extends(first, second, other.path)
        self.findings.held = older
        return f"{older.size} leaves at {_time(older.time)}: the same log", None

    def _leaves(self, bundle: Bundle) -> tuple[str, None]:
        assert self.findings.checkpoint is not None
        count = self._log.take(bundle.leaves, self.findings.checkpoint)
        return f"{count} leaves, each with its path to the checkpoint's root", None

    def _list(self, kept: Kept) -> tuple[str, None]:
        message = self._verified(kept, "", "")
        claims = message.claims
        if not isinstance(claims, Crl):
            raise ProtocolViolation("typ", "no list of revoked certificates")
        issuer = self._authority(claims.authority)
        if issuer is None:
            return f"of the {claims.authority} authority, of which the file holds no certificate: not used", None
        content = certificates.read_crl(decode_chain((claims.crl,))[0], issuer)
        if content.number != claims.number:
            raise ProtocolViolation("crl_number", "the message says another number than the list")
        self._lists.append(_List(claims.authority, kept.leaf or 0, content))
        until = f"{_time(content.this_update)} to {_time(content.next_update)}"
        return f"the {claims.authority} authority's list {content.number}, {until}: {len(content.serials)} revoked", None

    def _authority(self, name: str) -> bytes | None:
        """The verified certificate of an authority, out of a chain of the file; looked for once."""
        if name not in self._authorities:
            self._authorities[name] = self._find_authority(name)
        return self._authorities[name]

    def _find_authority(self, name: str) -> bytes | None:
        wanted = ids.urn(self._bundle.operator, "authority", name)
        for kept in (*self._bundle.lists, *self._bundle.keys, *self._bundle.messages):
            chain = peek_chain(kept.compact)
            for known in (chain, self._trust.chain(peek_kid(kept.compact))):
                for der in known[1:]:
                    if _urn(der) == wanted:
                        self._trust.certificate(certificates.kid(known[0]), known, kept.at)
                        return der
        return None

    def _keys(self, bundle: Bundle) -> tuple[str, None]:
        merchant = bundle.merchant_urn
        own: list[str] = []
        for kept in bundle.keys:
            claims = self._verified(kept, _merchant_of(kept), "").claims
            if isinstance(claims, Certificates):
                for chain in claims.chains:
                    self._records[certificates.kid(decode_chain(chain)[0])] = claims
            if isinstance(claims, SessionAuthority):
                self._records[certificates.kid(decode_chain(claims.chain)[0])] = claims
            elif isinstance(claims, SessionAuthorityRequest):
                self._own_authorities[asked_authority(claims)] = peek_kid(kept.compact)
            elif merchant in (claims.iss, claims.aud):
                own.append(kept.compact)
        latest = max((kept.at for kept in (*bundle.messages, *bundle.keys)), default=0)
        continuity = verify_continuity(own, root=self._root, merchant=merchant, card=self._card, at=latest)
        if continuity.problems:
            raise ProtocolViolation("continuity", continuity.problems[0])
        used = {peek_kid(kept.compact) for kept in bundle.messages if self._iss(kept) == merchant} | set(self._own_authorities.values())
        self.findings.card = self._card
        self.findings.unvouched = tuple(sorted(kid for kid in used if not continuity.vouches(kid)))
        self.findings.unrecorded = tuple(sorted({peek_kid(kept.compact) for kept in bundle.messages} - set(self._records)))
        found = "; ".join(f"{link.kid} since {_time(link.since)} by {_HOW[link.how]}" for link in continuity.links) or "no record of any"
        if self._card is not None and self.findings.unvouched:
            raise ProtocolViolation(
                "key_card",
                f"{self.findings.unvouched[0]} does not hang on key card {self._card}: the operator alone vouches for it ({found})",
            )
        return found, None

    def _iss(self, kept: Kept) -> object:
        return peek_claims(kept.compact).get("iss")

    def _message(self, kept: Kept) -> tuple[str, None]:
        self._chain.append(message := self._verified(kept, self._bundle.merchant, self._bundle.tid))
        certificate = self._trust.certificate(message.kid, peek_chain(kept.compact), kept.at)
        return f"{self._who(message, certificate)}; kept {_time(kept.at)}; {self._not_revoked(kept, certificate)}", None

    def _signed(self, kept: Kept) -> tuple[str, None]:
        message = verify_stored(Stored("", "", ids.digest(kept.compact.encode("ascii")), kept.compact, kept.at), self._trust)
        self._chain.append(message)
        certificate = self._trust.certificate(message.kid, peek_chain(kept.compact), kept.at)
        self._trust.bring(certificate.chain)
        return f"{self._who(message, certificate)}; {self._not_revoked(kept, certificate)}", None

    def _own_key(self) -> tuple[str, None]:
        """Of a message by itself: without renewals beside it only the very key on the card hangs on the card."""
        message = self._chain[0]
        if message.claims.SENDER != "merchant":
            return "not the merchant's message", None
        self.findings.merchant, self.findings.card = message.claims.iss, self._card
        if self._card is not None and thumbprint(self._trust.certificate(message.kid, (), message.claims.iat).public) != self._card:
            self.findings.unvouched = (message.kid,)
            raise ProtocolViolation("key_card", f"{message.kid} is not on card {self._card}: ask for the evidence file, which has renewals")
        return "the key on the card" if self._card is not None else "no key card was given", None

    def _who(self, message: SignedMessage[Message], certificate: VerifiedCertificate) -> str:
        claims = message.claims
        good = f"{_time(certificate.not_before)} to {_time(certificate.not_after)}"
        return f"{message.hash} signed by {claims.iss} at {_time(claims.iat)} under {certificate.purpose} key {message.kid}, good {good}"

    def _verified(self, kept: Kept, merchant: str, tid: str) -> SignedMessage[Message]:
        """Signature, sender and dates as of when it was kept; at the gateway also its place in the log, and revocation as it was then."""
        name = ids.digest(kept.compact.encode("ascii"))
        message = verify_stored(Stored(merchant, tid, name, kept.compact, kept.at), self._trust)
        if kept.typ != message.claims.TYP:
            raise ProtocolViolation("typ", f"the file calls it {printable(kept.typ)}")
        if self._bundle.source == "gateway":
            self._log.names_message(kept, message, merchant, tid)
            if kept.revoked_at is not None and kept.revoked_at < kept.at:
                raise ProtocolViolation("revoked", f"the key was revoked at {_time(kept.revoked_at)}")
            self._cleared_by(kept, self._trust.certificate(message.kid, peek_chain(kept.compact), kept.at))
        elif (kept.leaf, kept.place, kept.revoked_at) != (None, None, None):
            raise ProtocolViolation("log", "a merchant's file knows nothing of leaves")
        return message

    def _cleared_by(self, kept: Kept, certificate: VerifiedCertificate, *, party: str = "") -> RevocationList | None:
        """The list of that moment, on which the key does not stand; None where the file has none."""
        if kept.leaf is None:
            return None
        party = party or certificate.urn.split(":")[3]
        known = [one for one in self._lists if one.authority == party and one.leaf < kept.leaf]
        current = [one for one in known if one.content.this_update <= kept.at <= one.content.next_update]
        if not current:
            return None
        latest = max(current, key=lambda one: one.leaf).content
        if not latest.serials.isdisjoint(certificate.serials):
            raise ProtocolViolation("revoked", f"the key is on list {latest.number} of that moment")
        return latest

    def _not_revoked(self, kept: Kept, certificate: VerifiedCertificate) -> str:
        """What is known of it, in words; keys that no list clears are noted."""
        cleared_by = self._cleared_by(kept, certificate)
        if cleared_by is not None:
            return f"not revoked: list {cleared_by.number} of that moment and the log"
        self._unlisted.add(certificates.kid(certificate.chain[0]))
        if kept.leaf is None:
            return "whether the key had been revoked is not known here"
        return "not revoked, as the log says; the file has no list of that moment"

    def _links(self, bundle: Bundle) -> tuple[str, None]:
        chain = self._chain
        if bundle.source == "gateway":
            places = [(kept.leaf or 0, kept.place or 0) for kept in bundle.messages]
            if any(later <= earlier for earlier, later in pairwise(places)):
                raise ProtocolViolation("order", "the messages do not stand in the order of the log")
        if bundle.source == "merchant" and sum(isinstance(message.claims, Order) for message in chain) > 1:
            raise ProtocolViolation("link", "two orders in one file")
        if len({message.hash for message in chain}) != len(chain):
            raise ProtocolViolation("link", "a message stands twice in the file")
        answered = {message.claims.req for message in chain if isinstance(message.claims, CancelConfirmation | CancelRefusal)}
        waiting = [message for message in chain if isinstance(message.claims, Cancel) and message.hash not in answered]
        self.findings.unanswered = tuple(message.claims.cancellation for message in waiting if isinstance(message.claims, Cancel))
        decided = {message.claims.req for message in chain if isinstance(message.claims, Authorization)}
        waiting += [message for message in chain if isinstance(message.claims, AuthorizationRequest) and message.hash not in decided]
        linked = [message for message in chain if message not in waiting]
        if not any(isinstance(message.claims, Order | Keys | Notice | Cancel | AuthorizationRequest) for message in chain):
            self.findings.no_order = True  # a merchant in plain form whose order ended unpaid: its end names a hash, and nothing else does
            linked = [message for message in linked if not isinstance(message.claims, Closed)]
        check_chain(bundle.merchant, bundle.tid, linked, None)
        outcomes = [message for message in chain if isinstance(message.claims, Settled | Voided | Closed) or is_approved(message.claims)]
        if len(outcomes) > 1:
            raise ProtocolViolation("link", "one payment has two ends")
        return f"{len(chain)} messages, each for this payment and continuing the one before it", None

    def _dual_signature(self, bundle: Bundle) -> tuple[str, None]:
        """The customer's temporary key signed both halves; its authority stands on no list of that moment."""
        kept_at = {message.hash: kept.at for message, kept in zip(self._chain, bundle.messages, strict=True)}
        found = self.findings.purchase = approved(self._chain, kept_at, self._trust)
        assert found is not None
        kept = next(kept for message, kept in zip(self._chain, bundle.messages, strict=True) if message.hash == found.request.hash)
        certificate = self._trust.certificate(certificates.kid(found.chain[0]), found.chain, kept.at)
        if self._cleared_by(kept, certificate, party="merchant") is None:
            self._unlisted.add(certificates.kid(found.chain[1]))
        if bundle.source == "gateway" and certificates.kid(found.chain[1]) not in self._records:
            self.findings.unrecorded = (*self.findings.unrecorded, certificates.kid(found.chain[1]))
        self.findings.authority_asked_under = self._own_authorities.get(thumbprint(certificates.public_of(found.chain[1])), "")
        who = f"temporary key {found.thumbprint} of session {found.request.claims.sid}, certified by {found.request.claims.iss}"
        return f"{found.dual.hash} over the order information and the payment information, by {who}", None

    def _nothing_beside(self, bundle: Bundle) -> tuple[str, None]:
        """Every leaf is of use, and nothing that was stored together with a message of the payment is left out."""
        self._log.check_used()
        self.findings.unshown = self._log.check_whole(bundle.messages)
        return "every leaf is of use, and what was stored together is shown together", None

    # --- the machinery ----------------------------------------------------------------------------------------------------------------

    def _step(self, what: str, work: Callable[[], tuple[str, T]], *, soft: bool = False) -> T:
        """Do one step and say what was found; a step that fails is the last, unless it is soft."""
        try:
            text, value = work()
        except HanbitError as error:
            if not soft or getattr(error, "rule", "") != "key_card":
                self._fail(what, str(error))
            self._add(what, str(error), passed=False)
            return None  # type: ignore[return-value]  # soft steps have no value
        self._add(what, text, passed=True)
        return value

    def _fail(self, what: str, why: str) -> NoReturn:
        self._add(what, why, passed=False)
        raise _Failed

    def _add(self, what: str, text: str, *, passed: bool) -> None:
        step = Step(len(self.report.steps) + 1, printable(what), printable(text, DETAIL_MAX), passed)
        self.report.steps.append(step)
        if not passed and self.report.failed is None:
            self.report.failed = step.number
        self._say(step)


def _merchant_of(kept: Kept) -> str:
    """Under whose name the payment server keeps a message about keys: the merchant's, where it is one."""
    claims = peek_claims(kept.compact)
    for name in (claims.get("iss"), claims.get("aud")):
        if isinstance(name, str) and name.split(":")[3:4] == ["merchant"]:
            return ":".join(name.split(":")[4:])
    return ""


def _urn(der: bytes) -> str:
    try:
        return certificates.urn_of(der)
    except UNREADABLE as error:
        raise ProtocolViolation("certificate_unreadable", "not a certificate of ours") from error


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_WHO: Final = {"gateway": "payment server", "merchant": "merchant"}
_HOW: Final = {"card": "the key card", "renewal": "renewal under the key before it", "code": "a one-time code of the operator's"}
