"""Passkeys in flows: enrolment in a live session, login and approval by the software authenticator."""

import json
from typing import Any

import msgspec

from hanbit.db.change import Change
from hanbit.kernel import ids
from hanbit.parties import passkeys
from hanbit.payments import factors
from hanbit.protocols import sealed
from hanbit.protocols.sealed import Auth
from tests.flows.authenticator import Authenticator
from tests.world import Person, Visit, World


async def enrol_passkey(world: World, person: Person) -> Authenticator:
    """A passkey of this customer."""
    gateway, passkey = world.gateway, Authenticator()
    who = await world.session(person)
    challenge = passkeys.enrolment_challenge(gateway.keyring.server_key, who.session.token_hash)
    put = passkeys.enrol(
        passkey.register(challenge),
        customer=who.customer,
        name="phone",
        site=factors.site(gateway),
        challenge=challenge,
        at=world.clock.now(),
    )
    await gateway.book.commit(Change(puts=(put,)))
    return passkey


async def login_passkey(visit: Visit, passkey: Authenticator, **changes: Any) -> str:
    """R5 by passkey."""
    claims = visit.opening.keys.claims
    assertion = passkey.sign(sealed.login_challenge(claims.ctx, claims.n)) | changes
    plain = {"method": "passkey", "assertion": assertion}
    return await visit.send_login(sealed.seal(visit.sealing.session, sealed.LOGIN_TYP, plain, visit.sealing.next()))


def auth_passkey(core: str, passkey: Authenticator, **changes: Any) -> str:
    """R7 by passkey: the challenge is bound to the core."""
    assertion = passkey.sign(sealed.consent_challenge(ids.digest(core.encode()))) | changes
    return auth("passkey", json.dumps(assertion))


def auth(method: str, value: str) -> str:
    """An authenticator of any method and value."""
    return msgspec.json.encode(Auth(method=method, value=value, salt=ids.digest(b"salt"))).decode()
