"""Whom the line lets in: the merchant that the registry knows by certificate and, on a leased line, by address; by no other door."""

from hanbit.crypto.certificates import kid
from hanbit.kernel.errors import NotAllowed, ProtocolViolation
from hanbit.line.doors import Peer
from hanbit.parties import merchants
from hanbit.payments.gateway import Gateway
from hanbit.protocols.signed import check_usable


async def admit(gateway: Gateway, peer: Peer) -> str:
    """The merchant's id. A suspended merchant gets no new payment, but must hear what becomes of those that it has."""
    if peer.mode == "leased":
        merchant = merchants.by_line_address(gateway.reader, peer.address)
    else:
        merchant = merchants.by_id(gateway.reader, peer.urn.rpartition(":")[2])
    if merchant is None:
        raise NotAllowed("unknown")
    if merchant.line_mode != peer.mode:
        raise ProtocolViolation("line_mode", f"{merchant.id} is registered for the {merchant.line_mode} line")
    if not peer.certificate and peer.mode == "leased" and not gateway.settings.leased_tls:
        return merchant.id
    if not check_line_key(gateway, peer.certificate) == peer.urn == gateway.settings.merchant_urn(merchant.id):
        raise ProtocolViolation("sender", peer.urn)
    return merchant.id


def check_line_key(gateway: Gateway, certificate: bytes) -> str:
    """The party for which this very certificate is registered to hold the line, in either direction; ProtocolViolation if it is revoked."""
    at = gateway.clock.now()
    key = gateway.registry.key(kid(certificate), (), at)
    check_usable(key, at)
    if key.purpose != "line":
        raise ProtocolViolation("purpose", key.purpose)
    return key.urn


def is_registered(gateway: Gateway, address: str) -> bool:
    """Whether a leased line comes from this address: nobody else is answered a byte there."""
    return merchants.by_line_address(gateway.reader, address) is not None
