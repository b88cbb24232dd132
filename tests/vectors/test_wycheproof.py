"""Project Wycheproof's vectors through our own functions: each behaves as labelled, or is refused for the reason that is listed here."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from hanbit.crypto import envelopes, jwe, keys, signatures
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.protocols import signed

Vector = tuple[dict[str, Any], dict[str, Any]]
ABSENT_KEY = keys.new_key()


def load(folder: Path, name: str) -> Iterator[Vector]:
    """(group, vector) of every vector in a file."""
    document = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    found = [(group, vector) for group in document["testGroups"] for vector in group["tests"]]
    assert len(found) == document["numberOfTests"]
    return iter(found)


def accepted(attempt: Any, *arguments: Any) -> bool:
    """Whether our function takes it; its only way to say no is ProtocolViolation."""
    try:
        attempt(*arguments)
    except ProtocolViolation:
        return False
    return True


def test_ecdsa_signatures_of_64_bytes(vectors: Path) -> None:
    seen: Counter[str] = Counter()
    for group, vector in load(vectors, "ecdsa_secp256r1_sha256_p1363_test"):
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        public = keys.public_from_jwk(
            {"kty": "EC", "crv": "P-256", "x": ids.encode_base64url(point[1:33]), "y": ids.encode_base64url(point[33:])}
        )
        passed = accepted(signatures.verify, public, bytes.fromhex(vector["msg"]), bytes.fromhex(vector["sig"]))
        assert passed is (vector["result"] == "valid"), vector
        seen[vector["result"]] += 1
    assert seen == {"valid": 173, "invalid": 89}


def test_aes_gcm(vectors: Path) -> None:
    """Outside our profile and refused: keys of 128 and 192 bits, and every initialisation vector that has not 96 bits."""
    seen: Counter[str] = Counter()
    for group, vector in load(vectors, "aes_gcm_test"):
        parts = jwe.Parts(
            header={},
            protected=bytes.fromhex(vector["aad"]),
            wrapped=b"",
            iv=bytes.fromhex(vector["iv"]),
            ciphertext=bytes.fromhex(vector["ct"]),
            tag=bytes.fromhex(vector["tag"]),
        )
        key = bytes.fromhex(vector["key"])
        ours = (group["keySize"], group["ivSize"], group["tagSize"]) == (256, 96, 128)
        passed = accepted(jwe.decrypt, key, parts)
        assert passed is (ours and vector["result"] == "valid"), vector
        if passed:
            assert jwe.decrypt(key, parts).hex() == vector["msg"]
        kind = "ours" if ours else "other iv" if group["keySize"] == 256 else "other key"
        seen[f"{kind}, {vector['result']}"] += 1
    assert seen == {
        "ours, valid": 39,
        "ours, invalid": 27,
        "other iv, valid": 37,
        "other iv, invalid": 2,
        "other key, valid": 153,
        "other key, invalid": 58,
    }


def header_of(compact: str) -> dict[str, Any]:
    """The header as the tests' own reader sees it, to know the reason of a refusal; empty if there is none."""
    try:
        header = json.loads(ids.decode_base64url(compact.partition(".")[0]))
    except (BadInput, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def private_key(jwk: dict[str, Any]) -> ec.EllipticCurvePrivateKey:
    """The vector's P-256 key; where it has none, one that opens nothing."""
    if jwk.get("crv") != "P-256":
        return ABSENT_KEY
    return ec.derive_private_key(int.from_bytes(ids.decode_base64url(jwk["d"]), "big"), ec.SECP256R1())


def open_any(compact: str, jwk: dict[str, Any]) -> bytes:
    """What our envelopes do, without the typ and kid that only our own messages have."""
    parts = jwe.read(compact)
    if parts.header["alg"] == jwe.TO_KEY:
        return jwe.decrypt_with_key(parts, private_key(jwk))
    return jwe.decrypt(ids.decode_base64url(jwk["k"]), parts)


def test_json_web_encryption(vectors: Path) -> None:
    """In our profile is ECDH-ES+A256KW on P-256, or dir, with A256GCM; all else is refused by the name of its algorithm."""
    outside: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for group, vector in load(vectors, "json_web_encryption_test"):
        header = header_of(vector["jwe"])
        algorithms = f"{header.get('alg')} {header.get('enc')}"
        passed = accepted(open_any, vector["jwe"], group["private"])
        if algorithms in {"ECDH-ES+A256KW A256GCM", "dir A256GCM"}:
            assert passed is (vector["result"] == "valid"), vector
            assert open_any(vector["jwe"], group["private"]).hex() == vector["pt"]
            inside[f"{algorithms}, {vector['result']}"] += 1
        else:
            assert not passed, vector
            outside[str(header.get("alg"))] += 1
        # Our envelopes also ask for typ, which no message of others has.
        assert not accepted(envelopes.peek_header, vector["jwe"])
        assert not accepted(envelopes.open_with_secret, vector["jwe"], bytes(32))
    assert inside == {"ECDH-ES+A256KW A256GCM, valid": 1}
    assert outside == {algorithm: count for algorithm, (count, _) in OTHER_ENCRYPTION.items()}


SECRET_KEY = "no key is ever shared but SK, and that one directly"
RSA = "no RSA: its padding errors open messages"
OTHER_ENCRYPTION = {
    "A128KW": (4, SECRET_KEY),
    "A192KW": (1, SECRET_KEY),
    "A256KW": (30, SECRET_KEY),
    "A128GCMKW": (2, SECRET_KEY),
    "A192GCMKW": (1, SECRET_KEY),
    "A256GCMKW": (9, SECRET_KEY),
    "ECDH-ES": (7, "the agreed key is always used to wrap another"),
    "ECDH-ES+A128KW": (25, "keys have 256 bits"),
    "ECDH-ES+A192KW": (2, "keys have 256 bits"),
    "ECDH-ES+A256KW": (6, "the content is A128GCM or CBC"),
    "RSA1_5": (30, RSA),
    "RSA-OAEP": (7, RSA),
    "RSA-OAEP-256": (7, RSA),
    "dir": (1, "the content is A128GCM"),
    "None": (6, "there is no header or no alg"),
}
"""alg → how many are refused, and why."""


def test_json_web_signature(vectors: Path) -> None:
    """In our profile is ES256 with a key of exactly four members; all else is refused by the name of its algorithm."""
    outside: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for group, vector in load(vectors, "json_web_signature_test"):
        compact, jwk = vector["jws"], group["public"] if "public" in group else group["private"]
        algorithm = header_of(compact).get("alg")
        if algorithm == "ES256":
            passed = accepted(verify_any, compact, jwk)
            assert passed is (vector["result"] == "valid"), vector
            inside[vector["result"]] += 1
        else:
            assert not accepted(verify_any, compact, jwk), vector
            outside[str(algorithm)] += 1
        # Our own messages have typ and our own kid besides, so that none of these passes for one.
        assert not accepted(signed.verify_compact, compact, ABSENT_KEY.public_key())
        if jwk.get("crv") == "P-256":
            assert not accepted(signed.verify_compact, compact, private_key(group["private"]).public_key())
    assert inside == {"valid": 2, "invalid": 33}
    assert outside == {algorithm: count for algorithm, (count, _) in OTHER_SIGNATURES.items()}


SHARED = "whoever can verify it could have signed it: no evidence"
ONE_ALGORITHM = "one algorithm, pinned: ES256"
OTHER_SIGNATURES = {
    "HS256": (31, SHARED),
    "RS256": (231, ONE_ALGORITHM),
    "RS384": (5, ONE_ALGORITHM),
    "RS512": (5, ONE_ALGORITHM),
    "PS256": (49, ONE_ALGORITHM),
    "PS384": (8, ONE_ALGORITHM),
    "PS512": (11, ONE_ALGORITHM),
    "ES512": (2, ONE_ALGORITHM),
    "none": (4, "not signed"),
    "NONE": (1, "not signed"),
    "None": (19, "there is no header or no alg"),
}
"""alg → how many are refused, and why."""


def verify_any(compact: str, jwk: dict[str, Any]) -> None:
    """ES256 over the received bytes with header {alg, kid}, as signed messages do it."""
    segments = compact.split(".")
    header = header_of(compact)
    if len(segments) != 3 or header.get("alg") != "ES256" or not set(header) <= {"alg", "kid"} or header.get("kid") != jwk["kid"]:
        raise ProtocolViolation("header")
    try:
        signature = ids.decode_base64url(segments[2])
    except BadInput as error:
        raise ProtocolViolation("signature") from error
    signatures.verify(public_key(jwk), f"{segments[0]}.{segments[1]}".encode("ascii"), signature)


def public_key(jwk: dict[str, Any]) -> ec.EllipticCurvePublicKey:
    """Our keys have four members; a name, and the usage that agrees with ours, are taken off, any other member stays and is refused."""
    usual = {"alg": "ES256", "use": "sig"}
    return keys.public_from_jwk({name: value for name, value in jwk.items() if name not in {"kid", "d"} and usual.get(name) != value})


def test_json_web_key(vectors: Path) -> None:
    """Sets of keys are nothing that we have: each key by itself is a P-256 key for ES256, or is refused."""
    seen: Counter[str] = Counter()
    for group, vector in load(vectors, "json_web_key_test"):
        keyset = (group["public"] if "public" in group else group["private"])["keys"]
        for jwk in keyset:
            assert not accepted(verify_any, vector["jws"], jwk), (vector, jwk)
            assert not accepted(keys.public_from_jwk, jwk)
            seen[jwk["kty"]] += 1
            assert jwk["kty"] != "EC" or vector["result"] == "invalid"  # so nothing that is ours and good was refused
    assert seen == {kind: count for kind, (count, _) in OTHER_KEYS.items()}


OTHER_KEYS = {
    "oct": (18, "a symmetric key proves nothing to a third party"),
    "RSA": (6, "one algorithm, pinned: ES256"),
    "EC": (6, "HS256 over an EC key, alg or use of others, point off the curve, another curve"),
}
"""kty → how many are refused, and why."""
