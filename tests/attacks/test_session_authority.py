"""Session authorities that nobody should get: for others, unproven, twice a day, under dead keys; and what one may not do."""

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificates
from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.payments import operations
from hanbit.protocols import keys as role
from hanbit.protocols import signed
from hanbit.protocols.keys import SessionAuthority, SessionAuthorityRequest
from hanbit.protocols.signed import PinnedTrust, Signer, head, peek_claims, peek_typ
from tests.attacks.line_requests import DAY_S, UNTOUCHED, answered, merchant, refused
from tests.world import OPERATOR, World


def asked(world: World, key: EllipticCurvePrivateKey | None = None, signer: Signer | None = None) -> str:
    made = role.make_session_authority_request(signer or merchant(world), world.gateway.urn, key or new_key(), at=world.clock.now())
    return made.compact


def asked_for(world: World, urn: str, purpose: str) -> str:
    request = certificates.certificate_request(new_key(), urn, purpose)
    claims = head(merchant(world), world.gateway.urn, world.clock.now())
    return signed.sign(SessionAuthorityRequest(**claims, request=ids.encode_base64url(request)), merchant(world)).compact


def read(world: World, reply: str, name: str = "shop") -> role.RecordedAuthority:
    assert peek_typ(reply) == SessionAuthority.TYP, peek_claims(reply)
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn)
    own = merchant(world, name).urn
    return role.read_session_authority(
        reply, trust=trust, root=world.parties.root, gateway=world.gateway.urn, owner=own, at=world.clock.now()
    )


async def test_it_is_registered_recorded_told_and_good_for_thirty_days(world: World) -> None:
    found = read(world, await answered(world, asked(world)))
    assert found.certificate.urn == ids.urn(OPERATOR, "authority", "session:shop")
    (row,) = [row for row in world.rows("certificates") if row["kid"] == found.certificate.kid]
    assert (row["urn"], row["purpose"], row["revoked_at"]) == (found.certificate.urn, "", None)
    assert 29 * DAY_S < found.certificate.not_after - world.clock.now() <= 30 * DAY_S
    assert [row["merchant"] for row in world.rows("outbox") if row["hash"] == found.message.hash] == ["shop"]


async def test_the_same_request_gets_the_same_certificate_for_ever(world: World) -> None:
    request = asked(world)
    first = await answered(world, request)
    before = world.dump(leave_out=UNTOUCHED)
    world.clock.advance(100 * DAY_S)
    assert await answered(world, request) == first
    assert world.dump(leave_out=UNTOUCHED) == before


async def test_asked_twice_at_once_one_is_given(world: World) -> None:
    request = asked(world)
    first, second = await asyncio.gather(answered(world, request), answered(world, request))
    assert first == second
    assert len([row for row in world.rows("certificates") if not row["purpose"]]) == 1


async def test_another_merchants_request_is_refused_on_this_ones_line(world: World) -> None:
    await refused(world, asked(world, signer=merchant(world, "other")), "sender")


@pytest.mark.parametrize(
    ("urn", "purpose"),
    [
        (ids.urn(OPERATOR, "authority", "session:other"), ""),
        (ids.urn(OPERATOR, "merchant", "shop"), "merchant-sign"),
        ("", "merchant-sign"),
    ],
    ids=["of another merchant", "a leaf", "a leaf without a name"],
)
async def test_a_request_for_anything_else_is_refused(world: World, urn: str, purpose: str) -> None:
    await refused(world, asked_for(world, urn, purpose), "request")


@pytest.mark.parametrize("name", ["merchant", "root", "gateway"])
def test_nobody_can_even_ask_to_be_an_authority_above(name: str) -> None:
    with pytest.raises(ValueError, match="no session authority"):
        certificates.certificate_request(new_key(), ids.urn(OPERATOR, "authority", name), "")


async def test_a_request_that_another_key_signed_is_refused(world: World) -> None:
    der = bytearray(certificates.certificate_request(new_key(), certificates.session_authority(merchant(world).urn), ""))
    der[-1] ^= 1
    claims = head(merchant(world), world.gateway.urn, world.clock.now())
    forged = signed.sign(SessionAuthorityRequest(**claims, request=ids.encode_base64url(bytes(der))), merchant(world))
    await refused(world, forged.compact, "request")


async def test_a_key_that_has_a_certificate_gets_no_other(world: World) -> None:
    key = new_key()
    await answered(world, asked(world, key))
    world.clock.advance(2 * DAY_S)
    await refused(world, asked(world, key), "key_used")
    await refused(world, asked(world, merchant(world).key), "key_used")


async def test_one_a_day_unless_the_last_was_revoked(world: World) -> None:
    found = read(world, await answered(world, asked(world)))
    await refused(world, asked(world), "renewal_pending")
    await operations.revoke(world.gateway, kid=found.certificate.kid, reason="lost")
    assert peek_typ(await answered(world, asked(world))) == SessionAuthority.TYP


async def test_nothing_is_given_under_a_revoked_or_expired_key(world: World) -> None:
    await operations.revoke(world.gateway, kid=merchant(world).kid, reason="stolen")
    await refused(world, asked(world), "revoked")
    world.clock.advance(91 * DAY_S)
    await refused(world, asked(world, signer=merchant(world, "other")), "certificate_dates", "other")


async def test_a_revoked_one_stands_in_the_merchants_list(world: World) -> None:
    found = read(world, await answered(world, asked(world)))
    await operations.revoke(world.gateway, kid=found.certificate.kid, reason="lost")
    latest: dict[str, str] = {str(peek_claims(item)["authority"]): item for item in world.shop.lists}
    authorities = {"merchant": world.parties.merchant_authority.chain[0], "gateway": world.parties.gateway_authority.chain[0]}
    trust = PinnedTrust(world.parties.root, OPERATOR, urn=world.gateway.urn)
    listed = {
        name: role.read_crl(compact, trust=trust, gateway=world.gateway.urn, authorities=authorities, at=world.clock.now())
        for name, compact in latest.items()
    }
    assert found.certificate.serials[0] in listed["merchant"].content.serials
    assert all(found.certificate.serials[0] not in of.content.serials for name, of in listed.items() if name != "merchant")


# --- what its holder may do with it ----------------------------------------------------------------------------------------------------


async def held(world: World) -> Authority:
    key = new_key()
    found = read(world, await answered(world, asked(world, key)))
    return Authority.below_root(key, found.certificate.chain)


@pytest.mark.parametrize(
    ("urn", "purpose"),
    [
        (ids.urn(OPERATOR, "temporary", "other:" + "A" * 22), "temporary"),
        (ids.urn(OPERATOR, "merchant", "shop"), "merchant-sign"),
        (ids.urn(OPERATOR, "gateway"), "gateway-sign"),
    ],
)
async def test_it_certifies_nobody_but_this_merchants_sessions(world: World, urn: str, purpose: str) -> None:
    authority = await held(world)
    at = world.clock.now()
    with pytest.raises(ValueError, match="does not issue"):
        certificates.make_leaf(authority, urn=urn, purpose=purpose, public=new_key().public_key(), at=at, lifetime_s=900)
    good = certificates.make_leaf(
        authority,
        urn=ids.urn(OPERATOR, "temporary", "shop:" + "A" * 22),
        purpose="temporary",
        public=new_key().public_key(),
        at=at,
        lifetime_s=900,
    )
    verified = certificates.verify_chain((good, *authority.chain), root=world.parties.root, at=at, operator=OPERATOR)
    assert verified.serials[1] == certificates.serial_of(authority.chain[0])


async def test_it_is_never_taken_for_a_leaf_nor_a_leaf_for_it(world: World) -> None:
    authority, at = await held(world), world.clock.now()
    known: dict[str, Any] = {"root": world.parties.root, "at": at, "operator": OPERATOR}
    with pytest.raises(ProtocolViolation, match="certificate_issuer"):
        certificates.verify_chain(authority.chain, **known)
    for chain in (merchant(world).chain, authority.chain[1:]):
        with pytest.raises(ProtocolViolation, match="certificate_issuer"):
            certificates.verify_session_authority(chain, **known)


async def test_a_record_of_another_merchant_or_under_another_number_is_refused(world: World) -> None:
    reply = await answered(world, asked(world))
    claims = read(world, reply).message.claims
    signer = world.gateway.signer
    with pytest.raises(ProtocolViolation, match="jti"):
        read(world, signed.sign(msgspec.structs.replace(claims, jti=ids.new_token()), signer).compact)
    with pytest.raises(ProtocolViolation, match="certificate_operator"):
        read(world, signed.sign(msgspec.structs.replace(claims, aud=merchant(world, "other").urn), signer).compact, "other")
    with pytest.raises(ProtocolViolation, match="unknown_key"):
        read(world, signed.sign(claims, replace(world.parties.merchants["shop"], urn=signer.urn, purpose="gateway-sign")).compact)
