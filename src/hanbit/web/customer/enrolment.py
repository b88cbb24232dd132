"""How keys come to be registered over HTTP: a wallet's device key, a merchant's two keys, a browser's passkey.

GET  /enrol/keys       the current sealing certificate, for the installed program
POST /enrol/device     sealed: one-time code, certificate request, one-time-code secret
POST /enrol/merchant   one-time code and two certificate requests
POST /passkeys/options what the browser needs to make a passkey
POST /passkeys         the passkey it made
"""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hanbit.crypto import envelopes
from hanbit.db.change import Append, Change, Put, Stale
from hanbit.kernel import ids
from hanbit.kernel.errors import Conflict, NotAllowed, NotSignedIn, ProtocolViolation
from hanbit.parties import brand, customers, enrolment, merchants, passkeys
from hanbit.payments import factors, lines, mails, redirect_flow
from hanbit.payments.apply import signing_still
from hanbit.payments.certificates import issue
from hanbit.payments.gateway import Gateway
from hanbit.payments.redirect_flow import SignedIn
from hanbit.payments.sign_in import act
from hanbit.protocols.redirect.gateway import ORDER_LIFE_MAX_S
from hanbit.protocols.sealed import ENROL_TYP, SEALED_MAX
from hanbit.protocols.signed import encode_der
from hanbit.web.customer.forms import JOSE, DeviceEnrolmentForm, MerchantEnrolmentForm, decode_form, read_body, read_form, read_json
from hanbit.web.customer.routes import whence_of
from hanbit.web.faults import json_response
from hanbit.web.security import session_token

FRESH_S: Final = 15 * 60
"""A key may be added in the first so many seconds of a session."""
PASSKEY_NAME: Final = "browser"
"""What a passkey is called that a browser without a name has made; its owner may call it something else."""
_APPROVED: Final = """
SELECT 1 FROM payments p JOIN attempts a ON a.payment = p.id
WHERE p.customer = ? AND p.opened_at >= ? AND a.session = ? AND a.result = 'held' LIMIT 1
"""
"""By the customer's own recent payments, because attempts have no index but their payment."""


class EnrolmentFace:
    """The handlers of enrolment."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def routes(self) -> list[BaseRoute]:
        """The addresses of this module."""
        return [
            Route("/enrol/keys", self.show_keys),
            Route("/enrol/device", self.enrol_device, methods=["POST"]),
            Route("/enrol/merchant", self.enrol_merchant, methods=["POST"]),
            Route("/passkeys/options", self.passkey_options, methods=["POST"]),
            Route("/passkeys", self.enrol_passkey, methods=["POST"]),
        ]

    async def show_keys(self, _: Request) -> Response:
        """To whom an enrolment is to be sealed; the wallet verifies it up to the root that it trusts."""
        settings = self.gateway.settings
        shown = brand.of(self.gateway.reader, settings)
        operator = {"id": settings.operator, "name": shown.name_ko, "telephone": shown.telephone}
        seal = [encode_der(der) for der in self.gateway.keyring.seal_chain()]
        return json_response({"gateway": self.gateway.urn, "operator": operator, "seal": seal})

    async def enrol_device(self, request: Request) -> Response:
        """A customer's device key; the code is used up in the same Change that registers it."""
        form = self._open_enrolment(await read_body(request, JOSE))
        at = self.gateway.clock.now()
        found = enrolment.use_code(self.gateway.reader, form.code, "customer", at)
        csr, secret = ids.decode_base64url(form.request), ids.decode_base64url(form.secret)
        chain, rows = enrolment.issue_for_device(self.gateway.keyring, found, csr, secret, at)
        customer = customers.by_id(self.gateway.reader, found.urn.rpartition(":")[2])
        change = self._issued(rows, act(at, found.urn, "enrol", "device"), at)
        letter = mails.letter(self.gateway, customer, mails.NEW_KEY, facts={"key": "device", "label": "wallet"})
        await self._commit(msgspec.structs.replace(change, puts=(*change.puts, *letter)))
        shown = [encode_der(der) for der in chain]
        return json_response({"customer": found.urn, "chain": shown, "gateway": self.gateway.urn})

    async def enrol_merchant(self, request: Request) -> Response:
        """A merchant's signing key and line key."""
        form = await read_form(request, MerchantEnrolmentForm)
        at, settings, keyring = self.gateway.clock.now(), self.gateway.settings, self.gateway.keyring
        found = enrolment.use_code(self.gateway.reader, form.code, "merchant", at)
        chains, rows = enrolment.issue_for_merchant(keyring, found, form.requests, at)
        merchant = merchants.by_id(self.gateway.reader, found.urn.rpartition(":")[2])
        assert merchant is not None, found.urn
        await self._commit(self._issued(rows, act(at, found.urn, "enrol", "merchant", merchant.id), at))
        return json_response(
            {
                "operator": settings.operator,
                "merchant": found.urn,
                "gateway": self.gateway.urn,
                "line": lines.dialled(settings, merchant),
                "orders": merchant.orders,
                "test": settings.sandbox,
                "pay_url": f"{settings.public_url}/pay",
                "root": encode_der(keyring.root),
                "chains": {purpose: [encode_der(der) for der in chain] for purpose, chain in chains.items()},
            }
        )

    async def passkey_options(self, request: Request) -> Response:
        """PublicKeyCredentialCreationOptionsJSON."""
        await read_json(request)
        who = self._stepped_up(request)
        site = factors.site(self.gateway)
        return json_response(passkeys.enrolment_options(self.gateway.reader, who.customer, site, self._challenge(who)))

    async def enrol_passkey(self, request: Request) -> Response:
        """The RegistrationResponseJSON of the passkey that the browser made."""
        unverified = await read_json(request)
        who = self._stepped_up(request)
        at, site = self.gateway.clock.now(), factors.site(self.gateway)
        name = whence_of(request).browser or PASSKEY_NAME
        row = passkeys.enrol(unverified, customer=who.customer, name=name, site=site, challenge=self._challenge(who), at=at)
        letter = mails.letter(self.gateway, who.customer, mails.NEW_KEY, facts={"key": "passkey", "label": name})
        try:
            await self.gateway.book.commit(
                Change(puts=(row, *letter), appends=(act(at, f"customer:{who.customer.id}", "enrol", "passkey"),))
            )
        except Stale as error:
            raise Conflict("this passkey is registered already") from error
        return json_response({"enrolled": True})

    def _stepped_up(self, request: Request) -> SignedIn:
        """A passkey approves payments from every account, so a login password alone must not make one.

        The session is fresh, and in it the customer has logged in by a passkey or approved a payment with an account's own factor.
        """
        who = redirect_flow.signed_in(self.gateway, session_token(request))
        if self.gateway.clock.now() > who.session.created_at + FRESH_S:
            raise NotSignedIn("log in again to add a key")
        earliest = who.session.created_at - ORDER_LIFE_MAX_S
        approved = self.gateway.reader.one(_APPROVED, who.customer.id, earliest, who.session.token_hash)
        if who.session.method != "passkey" and approved is None:
            raise NotAllowed("a passkey can be added after a payment was approved in this session")
        return who

    def _challenge(self, who: SignedIn) -> bytes:
        return passkeys.enrolment_challenge(self.gateway.keyring.server_key, who.session.token_hash)

    def _open_enrolment(self, unverified: bytes) -> DeviceEnrolmentForm:
        if len(unverified) > SEALED_MAX or not unverified.isascii():
            raise ProtocolViolation("sealed")
        compact = unverified.decode("ascii")
        kid = envelopes.peek_header(compact).get("kid")
        seal = self.gateway.keyring.seal_by_kid(kid) if isinstance(kid, str) else None
        if seal is None:
            raise ProtocolViolation("sealed")
        return decode_form(envelopes.open_with_key(compact, seal.private, typ=ENROL_TYP, expected_kid=seal.kid), DeviceEnrolmentForm)

    def _issued(self, rows: list[Put], audit: Append, at: int) -> Change:
        """Certificates, whatever else the code brings, and the record of it."""
        made = issue(self.gateway, rows, how="code", at=at)
        return made.change(requires=(signing_still(self.gateway),), appends=(audit,))

    async def _commit(self, change: Change) -> None:
        try:
            await self.gateway.book.commit(change)
        except Stale as error:
            raise NotAllowed("this enrolment code is unknown, used or too old") from error
