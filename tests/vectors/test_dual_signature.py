"""The vector of the dual-signature checkout, held against hashlib, jose and our own roles: whoever writes a reader can rely on it."""

import hashlib
import hmac
import json
import subprocess
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hanbit.crypto import certificates, keys
from hanbit.kernel import ids
from hanbit.protocols import sealed, signed
from hanbit.protocols.dual_signature import gateway, merchant
from hanbit.protocols.dual_signature.digests import joint_digest, oi_digest, pi_digest
from hanbit.protocols.dual_signature.messages import Dual, Purchase, Result, Session, SessionAnswer
from hanbit.protocols.dual_signature.temporary import TemporaryTrust
from hanbit.protocols.redirect.merchant import hash_lines
from hanbit.protocols.redirect.messages import Receipt
from hanbit.protocols.sealed import PurchaseCore
from hanbit.protocols.signed import PinnedTrust

VECTOR: dict[str, Any] = json.loads(Path(__file__).with_name("dual_signature.json").read_text("utf-8"))
NODE = Path(__file__).parents[1] / "node"
RUN_S = 60
AT, OPERATOR = VECTOR["at"], VECTOR["operator"]
GATEWAY, SHOP = f"urn:hanbit:{OPERATOR}:gateway", f"urn:hanbit:{OPERATOR}:merchant:shop"
PURCHASE = VECTOR["purchase"]
ROOT = signed.decode_chain([VECTOR["root"]])[0]
TRUST = PinnedTrust(ROOT, OPERATOR)


def raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def digest(*parts: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(b"".join(parts)).digest()).rstrip(b"=").decode()


def claims(compact: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raw(compact.split(".")[1]))
    return found


def test_digests_are_what_the_protocol_says_and_what_we_compute() -> None:
    named, oi = VECTOR["digests"], PURCHASE["oi"]
    assert named["core_hash"] == digest(named["core"].encode())
    assert named["auth_hash"] == digest(named["auth"].encode())
    assert named["oimd"] == digest(b"hanbit1 OI\0", oi.encode()) == oi_digest(oi)
    assert named["pimd"] == digest(b"hanbit1 PI\0", raw(named["core_hash"]), raw(named["auth_hash"]))
    assert named["pimd"] == pi_digest(named["core_hash"], named["auth_hash"]) == PURCHASE["pimd"]
    assert named["pomd"] == digest(raw(named["pimd"]), raw(named["oimd"])) == joint_digest(named["pimd"], named["oimd"])
    dual = claims(PURCHASE["dual"])
    assert [dual[name] for name in ("oimd", "pimd", "pomd")] == [named[name] for name in ("oimd", "pimd", "pomd")]
    assert claims(VECTOR["request"])["envelope_hash"] == digest(PURCHASE["envelope"].encode())


def test_thumbprint_is_that_of_rfc_7638() -> None:
    key, named = VECTOR["thumbprint"]["key"], VECTOR["thumbprint"]["thumbprint"]
    members = "".join(f'"{name}":"{key[name]}",' for name in ("crv", "kty", "x", "y")).rstrip(",")
    assert named == digest(("{" + members + "}").encode()) == keys.thumbprint(keys.public_from_jwk(key))
    assert claims(VECTOR["answer"]["session"])["thumbprint"] == named
    assert json.loads(VECTOR["digests"]["core"])["thumbprint"] == named


def test_lines_account_challenge_and_code_are_what_the_protocol_says() -> None:
    lines, typed, code = VECTOR["lines"], VECTOR["typed_account"], VECTOR["code"]
    assert lines["oi"] == digest(b"hanbit1 OI-lines\0", raw(lines["salt"]), lines["lines"].encode())
    assert lines["oi"] == hash_lines(raw(lines["salt"]), lines["lines"].encode())
    assert typed["account"] == "typed:" + digest(b"hanbit1 account\0", raw(typed["salt"]), typed["number"].encode())
    core_hash = VECTOR["digests"]["core_hash"]
    assert VECTOR["consent_challenge"] == digest(b"hanbit1 consent\0", raw(core_hash))
    core = json.loads(VECTOR["digests"]["core"])
    assert raw(code["salt"]) == hashlib.sha256((core["grant"] + core["sid"]).encode()).digest()
    key = HKDF(SHA256(), 32, raw(code["salt"]), code["info"].encode()).derive(raw(code["secret"]))
    assert raw(code["value"]) == hmac.digest(key, raw(core_hash), "sha256")
    assert json.loads(VECTOR["digests"]["auth"])["value"] == code["value"]


def test_every_link_names_the_message_before_it() -> None:
    answer = VECTOR["answer"]
    assert claims(answer["session"])["req"] == digest(VECTOR["session_request"].encode())
    assert claims(PURCHASE["dual"])["prev"] == digest(answer["session"].encode())
    assert claims(VECTOR["request"])["prev"] == digest(PURCHASE["dual"].encode())
    assert claims(VECTOR["authorization"])["req"] == digest(VECTOR["request"].encode())
    assert claims(VECTOR["receipt"])["prev"] == digest(VECTOR["authorization"].encode())
    assert claims(VECTOR["result"])["req"] == digest(VECTOR["result_request"].encode())


def test_our_roles_take_every_message_of_it() -> None:
    shop = certificates.kid(signed.decode_chain(VECTOR["opening"]["merchant_chain"])[0])
    answer = msgspec.convert(VECTOR["answer"], SessionAnswer)
    session = signed.verify(answer.session, Session, trust=TRUST, audience=f"urn:hanbit:{OPERATOR}:customer", at=AT, sender=SHOP)
    assert session.kid == shop
    request = gateway.verify_authorization_request(VECTOR["request"], trust=TRUST, gateway=GATEWAY, merchant_urn=SHOP, at=AT)
    trust = TemporaryTrust(ROOT, SHOP, session.claims.sid)
    dual = signed.verify(request.claims.dual, Dual, trust=trust, audience=GATEWAY, at=AT)
    assert dual.compact == msgspec.convert(PURCHASE, Purchase).dual
    private = keys_of(VECTOR["seal"])
    kid, sid = sealed.peek_purchase(PURCHASE["envelope"])
    instruction = sealed.open_purchase(PURCHASE["envelope"], private, kid, sid=sid)
    assert len(raw(PURCHASE["envelope"].split(".")[3])) == sealed.PURCHASE_PADDED_TO
    assert isinstance(instruction.core, PurchaseCore)
    assert (instruction.core_text, instruction.auth.method) == (VECTOR["digests"]["core"], "code")
    gateway.check_halves(request.claims, dual.claims, instruction)
    for compact, kind in ((VECTOR["receipt"], Receipt), (VECTOR["result"], Result)):
        signed.verify(compact, kind, trust=TRUST, audience=f"urn:hanbit:{OPERATOR}:customer", at=AT, sender=GATEWAY)
    asked = gateway.verify_result_request(
        VECTOR["result_request"], root=ROOT, merchant_urn=SHOP, sid=session.claims.sid, gateway=GATEWAY, at=AT
    )
    assert asked.claims.tid == request.claims.tid
    assert merchant.frame("a", "b") == "a\nb"


def keys_of(jwk: dict[str, str]) -> Any:
    return ec.derive_private_key(int.from_bytes(raw(jwk["d"]), "big"), ec.SECP256R1())


def by_jose(node: str, given: dict[str, Any]) -> Any:
    command: list[str | Path] = [node, NODE / "verify-purchase.mjs"]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def leaf(compact: str) -> str:
    return certificates.dump_chain_pem([signed.peek_chain(compact)[0]])


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    temporary = leaf(PURCHASE["dual"])
    return {
        "thumbprint": VECTOR["thumbprint"]["key"],
        "keyed": {"compact": VECTOR["session_request"], "key": VECTOR["thumbprint"]["key"]},
        "signed": [
            {"compact": PURCHASE["dual"], "certificate": temporary},
            {"compact": VECTOR["result_request"], "certificate": temporary},
            {"compact": VECTOR["answer"]["session"], "certificate": leaf(VECTOR["answer"]["session"])},
            {"compact": VECTOR["request"], "certificate": leaf(VECTOR["request"])},
            {"compact": VECTOR["authorization"], "certificate": leaf(VECTOR["authorization"])},
        ],
        "envelope": PURCHASE["envelope"],
        "seal": VECTOR["seal"],
    }


def test_jose_which_knows_nothing_of_us_reads_the_same(node: str, given: dict[str, Any]) -> None:
    answer = by_jose(node, given)
    assert answer["thumbprint"] == VECTOR["thumbprint"]["thumbprint"]
    assert answer["verified"] == [claims(item["compact"]) for item in (given["keyed"], *given["signed"])]
    assert answer["header"]["sid"] == claims(PURCHASE["dual"])["sid"]
    assert answer["plain"] == {"core": VECTOR["digests"]["core"], "auth": VECTOR["digests"]["auth"]}
    assert ids.digest(answer["plain"]["core"].encode()) == VECTOR["digests"]["core_hash"]
