"""The examples of RFC 7520, which come with jwcrypto: the P-256 key is read, and no message in algorithms of others is taken."""

import importlib.util
from types import ModuleType
from typing import Any

import jwcrypto
import pytest

from hanbit.crypto import envelopes, jwe, keys
from hanbit.kernel.errors import ProtocolViolation
from hanbit.protocols import signed


def _cookbook() -> dict[str, Any]:
    """The module's name has a hyphen, so that it cannot be imported in the ordinary way."""
    (folder,) = jwcrypto.__path__
    spec = importlib.util.spec_from_file_location("cookbook", f"{folder}/tests-cookbook.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


COOKBOOK = _cookbook()
SEALED = sorted(name for name in COOKBOOK if name.startswith("JWE_compact_"))
SIGNED = sorted(name for name in COOKBOOK if name.startswith("JWS_compact_"))
ELLIPTIC = sorted(name for name, value in COOKBOOK.items() if isinstance(value, dict) and value.get("kty") == "EC")


def test_the_examples_are_there() -> None:
    assert (len(SEALED), len(SIGNED)) == (9, 4)
    assert [name for name in ELLIPTIC if COOKBOOK[name]["crv"] == "P-256"]


@pytest.mark.parametrize("name", ELLIPTIC)
def test_keys_on_p256_are_read_and_on_other_curves_refused(name: str) -> None:
    jwk = {member: value for member, value in COOKBOOK[name].items() if member in {"kty", "crv", "x", "y"}}
    if jwk["crv"] == "P-256":
        assert keys.public_jwk(keys.public_from_jwk(jwk)) == jwk
    else:
        with pytest.raises(ProtocolViolation, match="jwk"):
            keys.public_from_jwk(jwk)


@pytest.mark.parametrize("name", SEALED)
def test_sealed_example_is_refused_by_its_algorithm(name: str) -> None:
    """Sections 5.1 to 5.13: RSA, passwords, P-384, A128KW, CBC, zip: none is ECDH-ES+A256KW or dir with A256GCM."""
    for reader in (jwe.read, envelopes.peek_header):
        with pytest.raises(ProtocolViolation) as refused:
            reader(COOKBOOK[name])
        assert str(refused.value) == "sealed"


@pytest.mark.parametrize("name", SIGNED)
def test_signed_example_is_refused_by_its_algorithm(name: str) -> None:
    """Sections 4.1 to 4.4: RS256, PS384, ES512, HS256."""
    with pytest.raises(ProtocolViolation) as refused:
        signed.verify_compact(COOKBOOK[name], keys.new_key().public_key())
    assert refused.value.rule == "header"
