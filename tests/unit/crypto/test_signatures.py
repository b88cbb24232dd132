"""ES256: what we sign others verify, what others sign we verify, and nothing else passes."""

import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from joserfc import jws
from joserfc.jwk import ECKey

from hanbit.crypto import keys, signatures
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def half(number: int) -> bytes:
    return number.to_bytes(32, "big")


def refused(signature: bytes, data: bytes = b"data") -> bool:
    with pytest.raises(ProtocolViolation) as violation:
        signatures.verify(KEY.public_key(), data, signature)
    return violation.value.rule == "signature"


KEY = keys.new_key()


def test_rfc_7515_appendix_a3_verifies() -> None:
    public = keys.public_from_jwk(
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }
    )
    signed = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    signature = ids.decode_base64url("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
    signatures.verify(public, signed, signature)
    with pytest.raises(ProtocolViolation):
        signatures.verify(public, signed + b"x", signature)


def test_signature_is_two_halves_of_32_bytes_and_verifies() -> None:
    for _ in range(50):  # short numbers keep their leading zeros
        signature = signatures.sign(KEY, b"data")
        assert len(signature) == signatures.SIGNATURE_BYTES
        signatures.verify(KEY.public_key(), b"data", signature)


def test_joserfc_verifies_ours_and_we_verify_its() -> None:
    jwk = ECKey.import_key({**keys.public_jwk(KEY.public_key()), "d": ids.encode_base64url(half(KEY.private_numbers().private_value))})
    signed = base64.urlsafe_b64encode(b'{"alg":"ES256"}').rstrip(b"=") + b".cGF5bG9hZA"
    ours = signed.decode() + "." + ids.encode_base64url(signatures.sign(KEY, signed))
    assert jws.deserialize_compact(ours, jwk).payload == b"payload"
    theirs = jws.serialize_compact({"alg": "ES256"}, b"payload", jwk)
    head, _, signature = theirs.rpartition(".")
    signatures.verify(KEY.public_key(), head.encode(), ids.decode_base64url(signature))


def test_other_data_and_other_key_are_refused() -> None:
    signature = signatures.sign(KEY, b"data")
    assert refused(signature, b"date")
    with pytest.raises(ProtocolViolation):
        signatures.verify(keys.new_key().public_key(), b"data", signature)


def test_every_flipped_bit_is_refused() -> None:
    signature = signatures.sign(KEY, b"data")
    for position in range(0, 512, 7):
        flipped = bytearray(signature)
        flipped[position // 8] ^= 1 << position % 8
        assert refused(bytes(flipped))


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 70, 72, 128])
def test_signature_of_another_length_is_refused(length: int) -> None:
    assert refused((signatures.sign(KEY, b"data") * 2)[:length])


def test_signature_in_der_is_refused() -> None:
    assert refused(KEY.sign(b"data", ECDSA(hashes.SHA256())))


@pytest.mark.parametrize("r", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
@pytest.mark.parametrize("s", [0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
def test_numbers_at_the_edge_of_the_range_are_refused(r: int, s: int) -> None:
    assert refused(half(r) + half(s))


def test_numbers_beyond_the_order_do_not_pass_for_their_rest() -> None:
    for _ in range(20):
        signature = signatures.sign(KEY, b"data")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if r + ORDER < 2**256:
            assert refused(half(r + ORDER) + half(s))
        if s + ORDER < 2**256:
            assert refused(half(r) + half(s + ORDER))
