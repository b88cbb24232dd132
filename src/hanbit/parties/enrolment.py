"""Enrolment with a one-time code: a merchant's keys, a customer's device; the private key never leaves its maker."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from hanbit.crypto import certificates
from hanbit.crypto.envelopes import derive
from hanbit.db.change import Put, Value
from hanbit.db.reading import Reader
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotAllowed, ProtocolViolation
from hanbit.parties.keyring import Keyring
from hanbit.parties.registry import certificate_put

CODE_BYTES = 16
CODE_LIFE_S = 24 * 3600
MERCHANT_PURPOSES = ("merchant-sign", "line")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a right code leads to: whose it is, and the row that uses it up."""

    urn: str
    used: Put


def new_code(urn: str, at: int) -> tuple[str, Put]:
    """A one-time code for a party, good for a day; only its hash is kept."""
    code = secrets.token_urlsafe(CODE_BYTES)
    row: dict[str, Value] = {"code_hash": _hash(code), "urn": urn, "expires_at": at + CODE_LIFE_S, "used_at": None}
    return code, Put("enrolments", row, version=0)


def use_code(reader: Reader, code: str, role: str, at: int) -> Enrolment:
    """The enrolment of a code that is known, unused and not too old; otherwise one NotAllowed, whatever is wrong."""
    row = reader.one("SELECT * FROM enrolments WHERE code_hash = ?", _hash(code))
    if row is None or row["used_at"] is not None or at > row["expires_at"] or row["urn"].split(":")[3] != role:
        raise NotAllowed("this enrolment code is unknown, used or too old")
    used = {"code_hash": row["code_hash"], "urn": row["urn"], "expires_at": row["expires_at"], "used_at": at}
    return Enrolment(row["urn"], Put("enrolments", used, row["version"]))


def issue_for_merchant(
    keyring: Keyring, enrolment: Enrolment, requests: dict[str, str], at: int
) -> tuple[dict[str, tuple[bytes, ...]], list[Put]]:
    """Certificates for a merchant's two keys, and the rows that register them."""
    if set(requests) != set(MERCHANT_PURPOSES):
        raise BadInput("requests: merchant-sign and line")
    chains, rows, publics = {}, [enrolment.used], set()
    for purpose in MERCHANT_PURPOSES:
        request = certificates.read_request(ids.decode_base64url(requests[purpose]))
        if request.purpose != purpose or request.urn not in ("", enrolment.urn):
            raise ProtocolViolation("request", f"not a request for {purpose}")
        chain = keyring.issue(urn=enrolment.urn, purpose=purpose, public=request.public, at=at)
        chains[purpose] = chain
        rows.append(certificate_put(chain, root=keyring.root, operator=keyring.operator, at=at))
        publics.add(request.public.public_numbers())
    if len(publics) != len(MERCHANT_PURPOSES):
        raise ProtocolViolation("request", "one key for each purpose")
    return chains, rows


def issue_for_device(
    keyring: Keyring, enrolment: Enrolment, request_der: bytes, code_secret: bytes, at: int
) -> tuple[tuple[bytes, ...], list[Put]]:
    """A certificate for a customer's device key, and the rows of the device and of its one-time-code secret."""
    request = certificates.read_request(request_der)
    if request.purpose != "customer-sign" or request.urn not in ("", enrolment.urn):
        raise ProtocolViolation("request", "not a request for customer-sign")
    if len(code_secret) != 32:  # noqa: PLR2004 - 256 bits
        raise BadInput("secret: 32 bytes")
    chain = keyring.issue(urn=enrolment.urn, purpose="customer-sign", public=request.public, at=at)
    kid = certificates.kid(chain[0])
    customer = enrolment.urn.split(":")[4]
    # The one-time-code secret must be usable by the gateway: it is kept wrapped under the pepper, which lies outside the book.
    wrapped = wrap(keyring.pepper, kid, code_secret)
    rows = [
        enrolment.used,
        certificate_put(chain, root=keyring.root, operator=keyring.operator, at=at),
        device_put(device_id=kid, customer=customer, kind="device", name="wallet", public={"kid": kid}, at=at),
        device_put(device_id=f"code:{kid}", customer=customer, kind="code", name="wallet", public={"wrapped": wrapped}, at=at),
    ]
    return chain, rows


def device_put(*, device_id: str, customer: str, kind: str, name: str, public: Mapping[str, str | int], at: int) -> Put:
    """The row of a new device key, passkey or one-time-code secret."""
    row: dict[str, Value] = {
        "id": device_id,
        "customer": customer,
        "kind": kind,
        "name": name,
        "state": "active",
        "public": json.dumps(public),
        "sign_count": 0,
        "created_at": at,
        "used_at": None,
    }
    return Put("devices", row, version=0)


def wrap(pepper: bytes, name: str, secret: bytes) -> str:
    """A secret wrapped (RFC 3394) under a key from the pepper and its own name: useless in a stolen book."""
    return ids.encode_base64url(aes_key_wrap(_wrapping_key(pepper, name), secret))


def unwrap(pepper: bytes, name: str, wrapped: str) -> bytes:
    """The secret that `wrap` hid; BadInput if the pepper or the row is not the one it was wrapped under."""
    try:
        return aes_key_unwrap(_wrapping_key(pepper, name), ids.decode_base64url(wrapped))
    except InvalidUnwrap as error:
        raise BadInput("the device's secret does not open") from error


def _wrapping_key(pepper: bytes, name: str) -> bytes:
    return derive(pepper, salt=name.encode("ascii"), info=b"hanbit device secret")


def _hash(code: str) -> str:
    return ids.digest(b"hanbit enrolment\0" + code.encode("utf-8"))
