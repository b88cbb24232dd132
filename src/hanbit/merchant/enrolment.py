"""Enrolment of a shop: keys made here, certificates asked for with a one-time code, everything checked against a pinned root.

1. two keys (signing, line) are made and stored; their private halves never leave this folder
2. the one-time code and two certificate requests, each signed with its own key, go to the gateway
3. the root in the answer is the one that the operator gave the shop by another way (file or thumbprint)
4. both certificates chain to it, are for these keys, these purposes and one merchant of this operator
5. registration and chains are stored; the key card is printed and signed on paper
"""

import asyncio
import http.client
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from hanbit.crypto import certificates
from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import BadInput, HanbitError, NotAllowed, ProtocolViolation, Unavailable
from hanbit.merchant import files, records
from hanbit.protocols.signed import CHAIN_MAX, decode_chain

PATH: Final = "/enrol/merchant"
ANSWER_MAX: Final = 64 * 1024
TIMEOUT_S: Final = 15
CODE_MAX: Final = 128

_Chain = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=CHAIN_MAX)]


@dataclass(frozen=True, slots=True)
class KeyCard:
    """What the shop staples to its paper contract: whoever signs as this shop must continue from this key."""

    operator: str
    merchant: str
    thumbprint: str
    """RFC 7638 SHA-256 thumbprint of the first signing key."""
    date: str

    def text(self) -> str:
        """The card as it is printed."""
        grouped = " ".join(self.thumbprint[start : start + 8] for start in range(0, len(self.thumbprint), 8))
        rows = (("Operator", self.operator), ("Merchant", self.merchant), ("Key (SHA-256)", grouped), ("Date", self.date))
        test = "  TEST, no real money / 시험용, 실제 돈 아님\n" if ids.is_test(self.operator) else ""
        return "HANBIT KEY CARD / 한빛 열쇠 카드\n" + test + "".join(f"  {name:<14} {value}\n" for name, value in rows)


class _Answer(msgspec.Struct, frozen=True):
    operator: str
    merchant: str
    gateway: str
    line: files.LineAddress
    pay_url: str
    root: str
    chains: dict[str, _Chain]
    orders: Literal["signed", "plain"] = "signed"
    test: bool = False


async def enrol(directory: Path, address: str, code: str, *, pin: str, clock: Clock) -> KeyCard:
    """Enrol at the gateway of this address and fill `directory`. `pin` is base64url SHA-256 of the operator's root (DER).

    Raises BadInput for what was typed, NotAllowed for a code that is not taken, ProtocolViolation where the answer is not the operator's.
    """
    if not 0 < len(code) <= CODE_MAX or not code.isascii():
        raise BadInput("the one-time code comes from the operator; copy it whole")
    ids.check(ids.DIGEST, pin, "pin: the root's SHA-256 in base64url (43 characters), from the operator")
    if (directory / files.REGISTRATION).exists():
        raise BadInput(f"{directory} is enrolled already: use a new folder")
    files.make_private(directory)
    files.make_private(files.generation_folder(directory, 1))
    own = {purpose: files.own_key(files.generation_folder(directory, 1), purpose) for purpose in files.PURPOSES}
    requests = {purpose: ids.encode_base64url(certificates.certificate_request(key, "", purpose)) for purpose, key in own.items()}
    body = msgspec.json.encode({"code": code, "requests": requests})
    answer = await asyncio.to_thread(_post, _read_address(address), body)
    registration, chains, root = _check(answer, {purpose: key.public_key() for purpose, key in own.items()}, pin, clock.now())
    for purpose, chain in chains.items():
        files.write_private(files.chain_path(directory, purpose), certificates.dump_chain_pem(chain).encode())
    files.write_private(directory / files.ROOT, certificates.dump_chain_pem([root]).encode())
    # Last: a folder with a registration is a whole one.
    files.write_private(directory / files.REGISTRATION, msgspec.json.encode(registration))
    return key_card(directory)


def key_card(directory: Path) -> KeyCard:
    """The card of an enrolled shop: its first signing key, whatever was renewed since."""
    registration = files.read_registration(directory)
    name, at = records.key_card_figures(directory)
    return KeyCard(registration.operator, registration.merchant, name, datetime.fromtimestamp(at, UTC).date().isoformat())


def _check(
    unverified: bytes, own: dict[str, EllipticCurvePublicKey], pin: str, at: int
) -> tuple[files.Registration, dict[str, tuple[bytes, ...]], bytes]:
    try:
        answer = msgspec.json.decode(unverified, type=_Answer)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation("enrolment", "the gateway's answer has another shape") from error
    (root,) = decode_chain((answer.root,))
    if ids.digest(root) != pin:
        raise ProtocolViolation("root", "not the root of this pin, or somebody sits in between; compare the pin, ask for a new code")
    if set(answer.chains) != set(own):
        raise ProtocolViolation("enrolment", "certificates for other purposes")
    chains = {purpose: decode_chain(texts) for purpose, texts in answer.chains.items()}
    for purpose, chain in chains.items():
        leaf = certificates.verify_chain(chain, root=root, at=at, operator=answer.operator)
        if (leaf.urn, leaf.purpose) != (answer.merchant, purpose) or leaf.public.public_numbers() != own[purpose].public_numbers():
            raise ProtocolViolation("enrolment", f"the {purpose} certificate is not for this shop's key")
    if not answer.merchant.startswith(ids.urn(answer.operator, "merchant") + ":") or answer.gateway != ids.urn(answer.operator, "gateway"):
        raise ProtocolViolation("enrolment", "the names do not belong to one operator")
    try:
        registration = msgspec.convert(
            {name: getattr(answer, name) for name in files.Registration.__struct_fields__}, files.Registration, from_attributes=True
        )
    except msgspec.ValidationError as error:
        raise ProtocolViolation("enrolment", str(error)) from error
    return registration, chains, root


def _read_address(address: str) -> SplitResult:
    try:
        split = urlsplit(address)
        port_is_good = split.port is None or split.port > 0
    except ValueError as error:
        raise BadInput("address: not a web address") from error
    if split.scheme not in {"http", "https"} or not split.hostname or split.username is not None or not port_is_good:
        raise BadInput("address: http(s)://host[:port]")
    if split.scheme == "http" and not _is_loopback(split.hostname):
        raise BadInput("address: without TLS only a gateway on this machine")
    return split


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _post(address: SplitResult, body: bytes) -> bytes:
    host = address.hostname or ""
    # Names under .localhost are this machine (RFC 6761); Debian's resolver does not know them.
    target = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        connection = http.client.HTTPSConnection(target, address.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(target, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", PATH, body, {"Content-Type": "application/json", "Accept": "application/json", "Host": address.netloc})
        response = connection.getresponse()
        content = response.read(ANSWER_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the gateway at {address.netloc} cannot be reached") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK or len(content) > ANSWER_MAX:
        raise _refused(response.status)
    return content


def _refused(status: int) -> HanbitError:
    if status in {http.HTTPStatus.BAD_REQUEST, http.HTTPStatus.FORBIDDEN, http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT}:
        return NotAllowed("the gateway did not take the code (mistyped, used, or older than a day): ask the operator for a new one")
    return Unavailable(f"the gateway answered {status}")
