"""Enrolment: with the one-time code from the operator this computer becomes the customer's own device.

1. the payment server's seal certificate is verified up to the trusted root
2. a device key and a secret for one-time codes are made here; the key never leaves
3. code, certificate request and secret go sealed, so that no proxy or log on the way learns them
4. the certificate that comes back must be for this key, this purpose, this operator and the customer that is named
"""

import secrets
from typing import Annotated, Final

import msgspec

from hanbit.crypto import certificates, envelopes, keys
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols import sealed, signed
from hanbit.protocols.signed import Signer
from hanbit.wallet.client import GatewayClient, Http, decode, read_address
from hanbit.wallet.store import SECRET_BYTES, Enrolment, Store

CODE_MAX: Final = 64
PURPOSE: Final = "customer-sign"

_Chain = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=signed.CHAIN_MAX)]


class _Keys(msgspec.Struct, frozen=True):
    gateway: str
    seal: _Chain


class _Enrolled(msgspec.Struct, frozen=True):
    gateway: str
    customer: str
    chain: _Chain


async def enrol(url: str, code: str, *, store: Store, http: Http, clock: Clock) -> Enrolment:
    """Enrol at the payment server of this address and keep the result; ProtocolViolation if it is not the trusted operator's."""
    if not 0 < len(code) <= CODE_MAX or not code.isascii():
        raise BadInput("the one-time code comes from the operator; copy it whole")
    origin, _ = read_address(url)
    client = GatewayClient(http, origin)
    shown = decode(await client.get("/enrol/keys"), _Keys)
    pin = store.pin(_operator(shown.gateway))
    seal = pin.certificate(signed.decode_chain(shown.seal), clock.now())
    if (shown.gateway, seal.urn, seal.purpose) != (pin.gateway, pin.gateway, "gateway-seal"):
        raise ProtocolViolation("seal", f"a {seal.purpose} key of {seal.urn}")
    key, secret = keys.new_key(), secrets.token_bytes(SECRET_BYTES)
    request = certificates.certificate_request(key, "", PURPOSE)
    plain = {"code": code, "request": ids.encode_base64url(request), "secret": ids.encode_base64url(secret)}
    compact = envelopes.seal_to_key(seal.public, seal.kid, msgspec.json.encode(plain), sealed.ENROL_TYP)
    answer = decode(await client.post_compact("/enrol/device", compact), _Enrolled)
    device = pin.certificate(signed.decode_chain(answer.chain), clock.now())
    if answer.gateway != pin.gateway or (device.urn, device.purpose) != (answer.customer, PURPOSE):
        raise ProtocolViolation("enrolment", f"a {device.purpose} certificate of {device.urn} came back")
    if keys.public_point(device.public) != keys.public_point(key.public_key()):
        raise ProtocolViolation("enrolment", "the certificate is for another key")
    signer = Signer(urn=device.urn, purpose=PURPOSE, kid=device.kid, chain=device.chain, key=key)
    enrolment = Enrolment(str(origin), device.urn, signer, device.not_after, secret)
    store.enrol(pin.operator, enrolment, key)
    return enrolment


def _operator(unverified_urn: str) -> str:
    parts = unverified_urn.split(":")
    if len(parts) != 4 or not ids.PARTY_ID.fullmatch(parts[2]):  # noqa: PLR2004 - urn:hanbit:<operator>:gateway
        raise ProtocolViolation("gateway", "not a gateway's name")
    return parts[2]
