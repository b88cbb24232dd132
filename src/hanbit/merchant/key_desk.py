"""A shop's keys while it runs: renewed by themselves over the line, with every certificate in the shop's name looked at.

    keys made ─▶ renewal signed, durable ─▶ asked ─▶ certificates verified ─▶ chains written ─▶ generation switched ─▶ in use
       keys-2/                renewal.jws                                                         one small file      line dialled anew

A stop anywhere is gone on from: the same keys, the same bytes, so the gateway gives the same answer. The session authority goes the same
way by itself: asked for at the first connection of a shop that has none, and anew before it ends. The old private keys are destroyed
once the gateway has accepted the new ones in a handshake and a hello; the certificates stay, as evidence.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificates, keys
from hanbit.crypto.keys import thumbprint
from hanbit.kernel import fail_points, ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import HanbitError, ProtocolViolation, Unavailable
from hanbit.merchant import files, records
from hanbit.merchant.changes import AnySigned, Keep, Stale
from hanbit.merchant.following import FollowingClock
from hanbit.merchant.identity import Identity
from hanbit.merchant.line import NotTaken
from hanbit.merchant.order_book import OrderBook
from hanbit.merchant.records import OwnCertificate
from hanbit.protocols import keys as role
from hanbit.protocols.keys import Certificates, Crl, KeyRecord, Recorded, RecordedAuthority, SessionAuthority
from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.signed import SignedMessage, peek_claims, peek_kid, peek_typ, verify

CHECK_S: Final = 60.0
RETRY_S: Final = 600
"""After a renewal that was not answered as it should be."""
RENEWAL: Final = "renewal.jws"
_SIGNED_TOO_LONG_AGO: Final = frozenset({"certificate_dates", "revoked"})
_log = logging.getLogger("hanbit.merchant.keys")


class DialledLine(Protocol):
    """What renewal needs of the line."""

    connected: asyncio.Event

    async def ask(self, message: str, *, timeout_s: float | None = None) -> str:
        """Send a request and return the unverified answer."""
        ...

    async def tell(self, message: str) -> None:
        """Send what nothing here waits for."""
        ...

    def redial(self) -> None:
        """Hang up and dial again, with the certificate that is in use now."""
        ...


class KeyDesk:
    """One shop's keys, certificates and lists of the revoked."""

    def __init__(
        self,
        identity: Identity,
        book: OrderBook,
        acknowledge: Callable[..., AnySigned],
        *,
        clock: Clock,
        on_alarm: Callable[[OwnCertificate], None] | None = None,
    ) -> None:
        """`acknowledge(hashes, at=)` signs an acknowledgement; `on_alarm` hears of each certificate that this shop never asked for."""
        self.lists = identity.lists
        self.sessions = identity.sessions
        self.line: DialledLine | None = None
        self._directory = identity.directory
        self._registration = identity.registration
        self._root = identity.root
        self._trust = identity.trust
        self._signer = identity.signer
        self._line_tls = identity.line_tls
        self._book = book
        self._acknowledge = acknowledge
        self._clock = clock
        self._on_alarm = on_alarm
        self._news = asyncio.Event()
        if isinstance(clock, FollowingClock):
            clock.on_moved.append(self._news.set)
        self._taking = asyncio.Lock()
        self._alarms: list[OwnCertificate] | None = None
        """None until looked for, and again when something has changed."""
        self._raised: set[str] = set()
        self._fault: str | None = None
        self._not_before: dict[str, int] = {}
        """work → when it is tried next, after it failed"""

    @asynccontextmanager
    async def at_work(self, line: DialledLine) -> AsyncIterator[None]:
        """Look after the keys over this line while the block lasts."""
        self.line = line
        work = asyncio.create_task(self.run(line), name="keys")
        try:
            yield
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    @property
    def alarms(self) -> list[OwnCertificate]:
        """Certificates in this shop's name whose keys it never had: somebody else can speak for it. Ask the operator, at once."""
        if self._alarms is None:
            self._alarms = [own for own in records.own_certificates(self._directory, at=self._clock.now()) if not own.asked]
        return self._alarms

    async def receive(self, typ: str, unverified: str) -> str | None:
        """A message about keys that came by itself; what to send back."""
        if typ == Crl.TYP:
            self.lists.take(unverified, self._clock.now())
            return None
        known = await self._book.known(ids.digest(unverified.encode("ascii", "replace")), "", None)
        if known.answer is not None:
            return known.answer
        if typ == SessionAuthority.TYP:
            return await self._take_authority(self._read_authority(unverified))
        assert typ == Certificates.TYP, typ
        return await self._take(self._read(unverified).message)

    def ring(self) -> None:
        """The line is up: look at once whether something is to be done."""
        self._news.set()

    async def run(self, line: DialledLine) -> None:
        """The background: whenever the line is up, look whether something is to be done; until cancelled."""
        while True:
            await line.connected.wait()
            self._news.clear()  # first: what comes meanwhile, a renewal's own certificates too, is looked at in the next round
            try:
                await self.tick()
            except HanbitError as error:
                _log.warning("work on the shop's keys waits: %s", error)
            except Exception:  # noqa: BLE001 - a full disk, a bug of ours: the shop goes on with the keys that it has
                _log.exception("work on the shop's keys failed")
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._say_fault(self._clock.now())  # not at once: the lists come just after the hello

    async def tick(self) -> None:
        """The line is up: destroy keys that were replaced, sign the record of the first key, renew what is due."""
        self._destroy_replaced()
        self._raise_alarms()
        # The session authority first: a renewal hangs up.
        await _each(partial(self._try, "sessions", self._certify_sessions_due), partial(self._try, "keys", self._renew_due))

    async def _try(self, what: str, work: Callable[[int], Awaitable[None]]) -> None:
        """Do it, and after a failure not again too soon."""
        at = self._clock.now()
        if at < self._not_before.get(what, 0):
            return
        self._not_before[what] = at + RETRY_S
        await work(at)
        self._not_before[what] = 0

    async def _renew_due(self, at: int) -> None:
        async def renew_due() -> None:
            if self.is_due(at):
                await self.renew()

        # Whatever becomes of the record, the keys in use must not expire.
        await _each(partial(self._record_first_key, at), renew_due)

    def is_due(self, at: int) -> bool:
        """Whether new keys are to be asked for, or have been and are not in use yet."""
        if (self._next() / RENEWAL).exists():
            return True
        chains = [certificates.load_chain_pem(files.chain_path(self._directory, purpose)) for purpose in files.PURPOSES]
        return any(at >= certificates.renew_at(*certificates.validity(chain[0])) for chain in chains)

    async def renew(self) -> None:
        """New keys for both purposes, in use when this returns; Unavailable if the gateway did not answer as it should."""
        folder, number = self._next(), files.generation(self._directory) + 1
        files.make_private(folder)
        new = {purpose: files.own_key(folder, purpose) for purpose in files.PURPOSES}
        fail_points.reach("merchant.renewal.keys")
        renewal = await self._renewal(folder, new)
        fail_points.reach("merchant.renewal.signed")
        recorded = self._read(await self._ask(renewal))
        role.check_answer(recorded, ids.digest(renewal.encode("ascii")), {purpose: key.public_key() for purpose, key in new.items()})
        acknowledgement = await self._take(recorded.message)
        fail_points.reach("merchant.renewal.answered")
        for leaf in recorded.leaves:
            files.write_private(files.chain_file(folder, leaf.purpose), certificates.dump_chain_pem(leaf.chain).encode("ascii"))
            fail_points.reach(f"merchant.renewal.{leaf.purpose}")
        files.use_generation(self._directory, number)
        fail_points.reach("merchant.renewal.switched")
        await self._tell(acknowledgement)
        chain = next(leaf.chain for leaf in recorded.leaves if leaf.purpose == self._signer.purpose)
        self._signer.renew(chain, new[self._signer.purpose])
        self._line_tls.show(files.chain_path(self._directory, "line"), files.key_path(self._directory, "line"))
        if self.line is not None:
            self.line.redial()
        self._not_before.clear()  # what was refused under the old key is tried under this one
        self._news.set()  # as soon as the line is up again the old private keys go
        _log.info("the shop's keys were renewed: generation %d", number)

    async def certify_sessions(self) -> None:
        """A new session authority, in use when this returns; Unavailable if the gateway did not answer as it should."""
        request = await self._authority_request()
        fail_points.reach("merchant.session_authority.signed")
        try:
            recorded = self._read_authority(await self._ask(request))
        except NotTaken as error:
            if error.line_code in _SIGNED_TOO_LONG_AGO and peek_kid(request) != self._signer.kid:
                self.sessions.drop_request()
            raise
        if recorded.message.claims.req != ids.digest(request.encode("ascii")):
            raise ProtocolViolation("req", "answers another request")
        fail_points.reach("merchant.session_authority.answered")
        await self._tell(await self._take_authority(recorded))

    # Inside

    async def _certify_sessions_due(self, at: int) -> None:
        """In plain form there is no signed order, and so nothing that a session could be for."""
        self.sessions.destroy_replaced()
        if self._registration.orders == "signed" and self.sessions.is_due(at, self.lists.revoked()):
            await self.certify_sessions()

    async def _authority_request(self) -> str:
        """The request's bytes: those that were signed before a stop, or new ones, durable before they leave."""
        known = self.sessions.request
        if known is not None:
            return known
        at = self._clock.now()
        message = role.make_session_authority_request(self._signer, self._registration.gateway, self.sessions.new_key(), at=at)
        await self._book.commit(Keep(message, sent=True, tid=None, answers=None, at=at))
        self.sessions.keep_request(message.compact)
        return message.compact

    def _read_authority(self, unverified: str) -> RecordedAuthority:
        registration = self._registration
        return role.read_session_authority(
            unverified,
            trust=self._trust,
            root=self._root,
            gateway=registration.gateway,
            owner=registration.merchant,
            at=self._clock.now(),
        )

    async def _take_authority(self, recorded: RecordedAuthority) -> str:
        """Keep the record; where it is of the key that waits for it, the authority is in use from now on."""
        async with self._taking:
            if self.sessions.request is not None and thumbprint(recorded.certificate.public) == thumbprint(
                self.sessions.new_key().public_key()
            ):
                self.sessions.use(recorded.certificate)
                _log.info("the shop's session authority was certified")
            return await self._take_once(recorded.message, records.SESSION_AUTHORITY)

    def _next(self) -> Path:
        return files.generation_folder(self._directory, files.generation(self._directory) + 1)

    async def _renewal(self, folder: Path, new: dict[str, EllipticCurvePrivateKey]) -> str:
        """The renewal's bytes: those that were signed before a stop, or new ones, durable before they leave."""
        path = folder / RENEWAL
        if path.exists():
            return path.read_text("ascii")
        at = self._clock.now()
        message = role.make_renewal(self._signer, self._registration.gateway, new, at=at)
        await self._book.commit(Keep(message, sent=True, tid=None, answers=None, at=at))
        records.keep(self._directory, records.renewal_name(message.compact), message.compact)
        files.write_private(path, message.compact.encode("ascii"))
        return message.compact

    async def _record_first_key(self, at: int) -> None:
        """At the first connection after the enrolment: both sides sign which key this shop began with."""
        if files.generation(self._directory) != 1 or records.read(self._directory, records.KEY_RECORD_CONFIRMATION) is not None:
            return
        own = [item for item in records.own_certificates(self._directory, at=at) if item.kid == self._signer.kid]
        if not own or own[0].how != "code":
            return  # the gateway has not told of our certificate yet, or it was issued before certificates were recorded
        compact = records.read(self._directory, records.KEY_RECORD)
        if compact is None:
            message = role.make_key_record(self._signer, self._registration.gateway, date=own[0].issued_at, at=at)
            await self._book.commit(Keep(message, sent=True, tid=None, answers=None, at=at))
            compact = message.compact
            records.keep(self._directory, records.KEY_RECORD, compact)
        sent = msgspec.convert(peek_claims(compact), KeyRecord)  # our own, from our own file
        record = ids.digest(compact.encode("ascii"))
        unverified = await self._ask(compact)
        confirmation = role.read_key_record_confirmation(unverified, record, sent, trust=self._trust, at=at)
        await self._keep(confirmation, answers=record, at=at)
        records.keep(self._directory, records.KEY_RECORD_CONFIRMATION, confirmation.compact)

    def _read(self, unverified: str) -> Recorded:
        registration = self._registration
        return role.read_certificates(
            unverified,
            trust=self._trust,
            root=self._root,
            gateway=registration.gateway,
            owner=registration.merchant,
            at=self._clock.now(),
        )

    async def _take(self, message: SignedMessage[Certificates]) -> str:
        """Keep a record of certificates in our name, alarm at what we never asked for, and say that it is kept."""
        async with self._taking:  # the same record comes as an answer and from the gateway's outbox
            return await self._take_once(message, "certificates")

    async def _take_once(self, message: SignedMessage[Certificates] | SignedMessage[SessionAuthority], kind: str) -> str:
        at = self._clock.now()
        known = await self._book.known(message.hash, "", None)
        if known.answer is not None:
            return known.answer
        records.keep(self._directory, f"{kind}-{message.hash}", message.compact)
        self._alarms = None
        await self._keep(message, answers=message.claims.req, at=at)
        acknowledgement = self._acknowledge((message.hash,), at=at)
        await self._book.commit(Keep(acknowledgement, sent=True, tid=None, answers=message.hash, at=at))
        self._raise_alarms()
        self._news.set()
        return acknowledgement.compact

    def _raise_alarms(self) -> None:
        for own in self.alarms:
            if own.kid not in self._raised:
                self._raised.add(own.kid)
                _log.error(
                    "a certificate was issued in this shop's name that it never asked for: %s (%s); ask the operator", own.kid, own.how
                )
                if self._on_alarm is not None:
                    self._on_alarm(own)

    def _say_fault(self, at: int) -> None:
        fault = self.lists.fault(at)
        if fault is not None and self._fault is None:
            _log.error("nothing of the payment server's is believed: %s", fault)
        if fault is None and self._fault is not None:
            _log.info("a current list of revoked certificates is here again")
        self._fault = fault

    async def _keep(self, message: AnySigned, *, answers: str | None, at: int) -> None:
        try:
            await self._book.commit(Keep(message, sent=False, tid=None, answers=answers, at=at))
        except Stale:
            return  # kept before a stop

    async def _ask(self, compact: str) -> str:
        if self.line is None:
            raise Unavailable("no line to the gateway")
        unverified = await self.line.ask(compact)
        if peek_typ(unverified) == RefusedByGateway.TYP:
            gateway, at = self._registration.gateway, self._clock.now()
            refused = verify(unverified, RefusedByGateway, trust=self._trust, audience=self._signer.urn, at=at, sender=gateway)
            raise NotTaken(refused.claims.code)
        return unverified

    async def _tell(self, acknowledgement: str) -> None:
        try:
            if self.line is not None:
                await self.line.tell(acknowledgement)
        except Unavailable:
            _log.info("the acknowledgement will be asked for again")

    def _destroy_replaced(self) -> None:
        """The gateway has accepted the keys in use: nobody needs the private halves of those before them."""
        current = files.generation_folder(self._directory, files.generation(self._directory))
        for folder in files.generation_folders(self._directory):
            if folder == current:
                return
            for purpose in files.PURPOSES:
                path = files.key_file(folder, purpose)
                if path.exists() or path.with_name(path.name + keys.DOOMED).exists():
                    keys.destroy(path)


async def _each(*works: Callable[[], Awaitable[None]]) -> None:
    """Do all of them, whatever becomes of those before, then raise the first failure.

    Not `finally`: what failed there would take the place of a cancellation, and whoever stops us would wait for ever.
    """
    failures: list[Exception] = []
    for work in works:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append(error)
    if failures:
        raise failures[0]
