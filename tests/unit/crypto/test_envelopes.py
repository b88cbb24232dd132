"""Sealed messages open for their receiver, in their place and unaltered; everything else is one and the same refusal."""

import itertools
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwe as joserfc_jwe
from joserfc.jwk import ECKey, OctKey
from jwcrypto import jwe as jwcrypto_jwe
from jwcrypto import jwk as jwcrypto_jwk

from hanbit.crypto import envelopes, keys
from hanbit.kernel import ids
from hanbit.kernel.errors import HanbitError, ProtocolViolation

KEY = keys.new_key()
KID = ids.digest(b"certificate")
SECRET = bytes(range(32))
CTX, TID = "A" * 22, "B" * 22
CLAIMS: dict[str, str | int] = {"typ": "hanbit-pay", "ctx": CTX, "sequence": 1, "tid": TID}
PRIVATE_JWK = {**keys.public_jwk(KEY.public_key()), "d": ids.encode_base64url(KEY.private_numbers().private_value.to_bytes(32, "big"))}
SECRET_JWK = {"kty": "oct", "k": ids.encode_base64url(SECRET)}


def sealed_to_key() -> str:
    return envelopes.seal_to_key(KEY.public_key(), KID, b"secret", "hanbit-key")


def open_to_key(unverified: str, private: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return envelopes.open_with_key(unverified, private, typ="hanbit-key", expected_kid=KID)


def refusal(unverified: str, private: ec.EllipticCurvePrivateKey = KEY, secret: bytes = SECRET) -> str:
    """Both ways of opening refuse with the same words."""
    words = set()
    for attempt in (lambda: open_to_key(unverified, private), lambda: envelopes.open_with_secret(unverified, secret)):
        with pytest.raises(ProtocolViolation) as refused:
            attempt()
        words.add(str(refused.value))
    (word,) = words
    return word


def with_header(sealed: str, **changes: Any) -> str:
    head, _, rest = sealed.partition(".")
    header = {**json.loads(ids.decode_base64url(head)), **changes}
    text = json.dumps({name: value for name, value in header.items() if value is not None})
    return f"{ids.encode_base64url(text.encode())}.{rest}"


def test_what_is_sealed_to_a_key_opens_with_it() -> None:
    for plaintext in (b"", b"x", bytes(range(256)) * 100):
        sealed = envelopes.seal_to_key(KEY.public_key(), KID, plaintext, "hanbit-key")
        assert open_to_key(sealed) == plaintext


def test_what_is_sealed_under_a_secret_opens_with_it() -> None:
    header, plaintext = envelopes.open_with_secret(envelopes.seal_with_secret(SECRET, b"pay", CLAIMS), SECRET)
    assert (header, plaintext) == ({"alg": "dir", "enc": "A256GCM", **CLAIMS}, b"pay")


def test_two_sealings_of_the_same_text_have_nothing_in_common() -> None:
    for first, second in ((sealed_to_key(), sealed_to_key()), *[[envelopes.seal_with_secret(SECRET, b"pay", CLAIMS) for _ in range(2)]]):
        assert all(a != b for a, b in zip(first.split(".")[2:], second.split(".")[2:], strict=True))


def test_further_claims_must_be_exactly_those_expected() -> None:
    sealed = envelopes.seal_to_key(KEY.public_key(), KID, b"pi", "hanbit-pi", {"sid": "S" * 22})
    claims: list[dict[str, str | int]] = [{"sid": "S" * 22}, {}, {"sid": "T" * 22}, {"sid": "S" * 22, "tid": TID}]
    for each in claims:
        if each == claims[0]:
            assert envelopes.open_with_key(sealed, KEY, typ="hanbit-pi", expected_kid=KID, extra_header=each) == b"pi"
        else:
            with pytest.raises(ProtocolViolation, match="sealed"):
                envelopes.open_with_key(sealed, KEY, typ="hanbit-pi", expected_kid=KID, extra_header=each)


def test_wrong_key_typ_and_kid_are_refused() -> None:
    sealed = sealed_to_key()
    for private, typ, kid in ((keys.new_key(), "hanbit-key", KID), (KEY, "hanbit-pi", KID), (KEY, "hanbit-key", ids.digest(b"other"))):
        with pytest.raises(ProtocolViolation) as refused:
            envelopes.open_with_key(sealed, private, typ=typ, expected_kid=kid)
        assert str(refused.value) == "sealed"


def test_one_form_does_not_open_as_the_other() -> None:
    under_secret = envelopes.seal_with_secret(SECRET, b"pay", {"typ": "hanbit-key"})
    with pytest.raises(ProtocolViolation, match="sealed"):
        open_to_key(under_secret)
    with pytest.raises(ProtocolViolation, match="sealed"):
        envelopes.open_with_secret(sealed_to_key(), SECRET)


def test_every_altered_character_is_refused() -> None:
    """Header, wrapped key, iv, ciphertext, tag: no single character may change, not even in unused bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for sealed in (sealed_to_key(), envelopes.seal_with_secret(SECRET, b"secret", CLAIMS)):
        for position, character in enumerate(sealed):
            if character != ".":
                other = alphabet[(alphabet.index(character) + 1) % 64]
                assert refusal(sealed[:position] + other + sealed[position + 1 :]) == "sealed"


def test_parts_exchanged_between_two_messages_are_refused() -> None:
    for seal in (sealed_to_key, lambda: envelopes.seal_with_secret(SECRET, b"secret", CLAIMS)):
        first, second = seal().split("."), seal().split(".")
        for choice in itertools.product((0, 1), repeat=5):
            mixed = [(first, second)[which][place] for place, which in enumerate(choice)]
            if mixed not in (first, second):
                assert refusal(".".join(mixed)) == "sealed"


def shapes() -> dict[str, str]:
    to_key, under_secret = sealed_to_key(), envelopes.seal_with_secret(SECRET, b"secret", CLAIMS)
    head, rest = under_secret.split(".", 1)
    text = ids.decode_base64url(head).decode()

    def written(header: str) -> str:
        return f"{ids.encode_base64url(header.encode())}.{rest}"

    return {
        "empty": "",
        "four parts": under_secret.rpartition(".")[0],
        "six parts": under_secret + ".",
        "JSON serialisation": json.dumps({"protected": head, "ciphertext": rest}),
        "padding": under_secret + "==",
        "space": under_secret + " ",
        "newline": under_secret + "\n",
        "not ASCII": under_secret[:-1] + "é",
        "half a surrogate": under_secret[:-1] + "\ud800",
        "full-width digits": under_secret[:-1] + "１",  # noqa: RUF001 - the point of this case
        "too long": under_secret + "A" * 65_536,
        "header too long": with_header(under_secret, tid="B" * 2_000),
        "duplicate name": written(text[:-1] + ',"tid":"' + TID + '"}'),
        "duplicate name, escaped": written(text[:-1] + ',"\\u0074id":"' + TID + '"}'),
        "header is a list": written("[]"),
        "header is a string": written('"dir"'),
        "header is deep": written("[" * 1_000),
        "header has a rest": written(text + "x"),
        "header is not UTF-8": f"{ids.encode_base64url(bytes([0xFF]) + text.encode())}.{rest}",
        "float": written(text.replace('"sequence":1', '"sequence":1.0')),
        "exponent": written(text.replace('"sequence":1', '"sequence":1e0')),
        "NaN": written(text.replace('"sequence":1', '"sequence":NaN')),
        "number as text": with_header(under_secret, sequence="1"),
        "number true": with_header(under_secret, sequence=True),
        "number zero": with_header(under_secret, sequence=0),
        "number negative": with_header(under_secret, sequence=-1),
        "number too large": with_header(under_secret, sequence=2**53),
        "number huge": written(text.replace('"sequence":1', '"sequence":' + "9" * 900)),
        "tid is a list": with_header(under_secret, tid=[TID]),
        "no typ": with_header(under_secret, typ=None),
        "typ of others": with_header(under_secret, typ="JWT"),
        "no alg": with_header(under_secret, alg=None),
        "no enc": with_header(under_secret, enc=None),
        "alg none": with_header(under_secret, alg="none"),
        "alg direct agreement": with_header(to_key, alg="ECDH-ES"),
        "alg with A128KW": with_header(to_key, alg="ECDH-ES+A128KW"),
        "alg RSA": with_header(to_key, alg="RSA-OAEP-256"),
        "alg password": with_header(under_secret, alg="PBES2-HS256+A128KW", p2c=2**31, p2s="AAAA"),
        "enc CBC": with_header(under_secret, enc="A256CBC-HS512"),
        "enc 128 bits": with_header(under_secret, enc="A128GCM"),
        "zip": with_header(under_secret, zip="DEF"),
        "crit": with_header(under_secret, crit=["exp"], exp=1),
        "kid under a secret": with_header(under_secret, kid=KID),
        "epk under a secret": with_header(under_secret, epk=keys.public_jwk(KEY.public_key())),
        "jwk": with_header(to_key, jwk=keys.public_jwk(KEY.public_key())),
        "jku": with_header(to_key, jku="pay.localhost"),
        "apu": with_header(to_key, apu="QWxpY2U"),
        "no kid": with_header(to_key, kid=None),
        "no epk": with_header(to_key, epk=None),
        "epk null": with_header(to_key, epk=[]),
        "epk private": with_header(to_key, epk=PRIVATE_JWK),
        "epk off the curve": with_header(to_key, epk={**keys.public_jwk(KEY.public_key()), "y": "A" * 43}),
        "epk on another curve": with_header(to_key, epk={**keys.public_jwk(KEY.public_key()), "crv": "P-384"}),
        "epk at infinity": with_header(to_key, epk={"kty": "EC", "crv": "P-256", "x": "", "y": ""}),
        "to a key without a wrapped key": ".".join(["" if place == 1 else part for place, part in enumerate(to_key.split("."))]),
        "under a secret with a wrapped key": ".".join(["A" * 54 if place == 1 else p for place, p in enumerate(under_secret.split("."))]),
        "iv of 8 bytes": ".".join(["A" * 11 if place == 2 else p for place, p in enumerate(under_secret.split("."))]),
        "no iv": ".".join(["" if place == 2 else p for place, p in enumerate(under_secret.split("."))]),
        "tag of 12 bytes": ".".join([p[:16] if place == 4 else p for place, p in enumerate(under_secret.split("."))]),
        "no tag": ".".join(["" if place == 4 else p for place, p in enumerate(under_secret.split("."))]),
    }


SHAPES = shapes()
AUTHENTIC_ONLY = {"epk null", "epk private", "epk off the curve", "epk on another curve", "epk at infinity"}
"""What only opening finds out: peeking looks at the spelling, not at the point."""


@pytest.mark.parametrize("shape", SHAPES)
def test_any_other_shape_is_refused_in_the_same_words(shape: str) -> None:
    assert refusal(SHAPES[shape]) == "sealed"
    if shape not in AUTHENTIC_ONLY:
        with pytest.raises(ProtocolViolation) as refused:
            envelopes.peek_header(SHAPES[shape])
        assert str(refused.value) == "sealed"


def test_peeking_shows_the_header_and_opens_nothing() -> None:
    assert envelopes.peek_header(envelopes.seal_with_secret(SECRET, b"pay", CLAIMS)) == {"alg": "dir", "enc": "A256GCM", **CLAIMS}
    header = envelopes.peek_header(sealed_to_key())
    assert (header["typ"], header["kid"]) == ("hanbit-key", KID)


def test_joserfc_opens_ours_and_we_open_its() -> None:
    registry = joserfc_jwe.JWERegistry(algorithms=["ECDH-ES+A256KW", "dir", "A256GCM"], strict_check_header=False)
    key, secret = ECKey.import_key({**PRIVATE_JWK}), OctKey.import_key({**SECRET_JWK})
    assert joserfc_jwe.decrypt_compact(sealed_to_key(), key, registry=registry).plaintext == b"secret"
    ours = envelopes.seal_with_secret(SECRET, b"pay", CLAIMS)
    assert joserfc_jwe.decrypt_compact(ours, secret, registry=registry).plaintext == b"pay"
    header = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "typ": "hanbit-key", "kid": KID}
    assert open_to_key(joserfc_jwe.encrypt_compact(header, b"theirs", key, registry=registry)) == b"theirs"
    theirs = joserfc_jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM", **CLAIMS}, b"theirs", secret, registry=registry)
    assert envelopes.open_with_secret(theirs, SECRET)[1] == b"theirs"


def test_jwcrypto_opens_ours_and_we_open_its() -> None:
    key, secret = jwcrypto_jwk.JWK(**PRIVATE_JWK), jwcrypto_jwk.JWK(**SECRET_JWK)
    for sealed, opener, plain in (
        (sealed_to_key(), key, b"secret"),
        (envelopes.seal_with_secret(SECRET, b"pay", CLAIMS), secret, b"pay"),
    ):
        token = jwcrypto_jwe.JWE(algs=["ECDH-ES+A256KW", "dir", "A256GCM"])
        token.deserialize(sealed, opener)
        assert token.payload == plain
    header = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "typ": "hanbit-key", "kid": KID}
    theirs = jwcrypto_jwe.JWE(b"theirs", json.dumps(header), algs=["ECDH-ES+A256KW", "A256GCM"])
    theirs.add_recipient(key)
    assert open_to_key(theirs.serialize(compact=True)) == b"theirs"


def test_rfc_5869_first_example() -> None:
    derived = envelopes.derive(b"\x0b" * 22, salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA)), length=42)
    assert derived.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


def test_rfc_4231_second_example() -> None:
    assert envelopes.mac(b"Jefe", b"what do ya want for nothing?").hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_derivations_differ_by_salt_and_purpose() -> None:
    derived = {envelopes.derive(SECRET, salt=salt, info=info) for salt in (b"a", b"b") for info in (b"login", b"pay")}
    assert len(derived) == 4
    assert {len(each) for each in derived} == {32}


def test_empty_and_short_secrets_fail_closed() -> None:
    sealed = envelopes.seal_with_secret(SECRET, b"pay", CLAIMS)
    for attempt in (
        lambda: envelopes.derive(b"", salt=b"", info=b""),
        lambda: envelopes.mac(b"", b"data"),
        lambda: envelopes.equal(b"", b""),
        lambda: envelopes.seal_with_secret(b"", b"pay", CLAIMS),
        lambda: envelopes.seal_with_secret(SECRET[:16], b"pay", CLAIMS),
        lambda: envelopes.open_with_secret(sealed, b""),
        lambda: envelopes.open_with_secret(sealed, SECRET + SECRET),
    ):
        with pytest.raises(ValueError, match="secret") as failed:
            attempt()
        assert not isinstance(failed.value, HanbitError)


def test_comparison_of_secrets() -> None:
    assert envelopes.equal(b"same", b"same")
    assert not envelopes.equal(b"same", b"diff")
    assert not envelopes.equal(b"same", b"")
    assert not envelopes.equal(b"same", b"same longer")
