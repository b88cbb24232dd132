"""A software authenticator: makes a passkey and signs with it, as a security key would (WebAuthn level 2, ES256, no attestation)."""

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from hanbit.crypto.keys import new_key
from hanbit.kernel.ids import encode_base64url

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclass
class Authenticator:
    """One passkey. `flags` are what it says about the person in front of it."""

    domain: str = "pay.localhost"
    origin: str = "http://pay.localhost:8400"
    id: bytes = b"a passkey of 32 bytes ..........."
    key: EllipticCurvePrivateKey = field(default_factory=new_key)
    counter: int = 0
    flags: int = PRESENT | VERIFIED

    def register(self, challenge: bytes) -> dict[str, Any]:
        """RegistrationResponseJSON."""
        numbers = self.key.public_key().public_numbers()
        cose = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20" + numbers.x.to_bytes(32, "big") + b"\x22\x58\x20" + numbers.y.to_bytes(32, "big")
        credential = bytes(16) + struct.pack(">H", len(self.id)) + self.id + cose
        data = self._data(self.flags | ATTESTED) + credential
        attestation = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData" + b"\x59" + struct.pack(">H", len(data)) + data
        response = {
            "clientDataJSON": encode_base64url(self._client("webauthn.create", challenge)),
            "attestationObject": encode_base64url(attestation),
        }
        return self._credential(response)

    def sign(self, challenge: bytes) -> dict[str, Any]:
        """AuthenticationResponseJSON."""
        self.counter += 1
        data, client = self._data(self.flags), self._client("webauthn.get", challenge)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ECDSA(SHA256()))
        response = {
            "clientDataJSON": encode_base64url(client),
            "authenticatorData": encode_base64url(data),
            "signature": encode_base64url(signature),
        }
        return self._credential(response)

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.domain.encode()).digest() + struct.pack(">BI", flags, self.counter)

    def _client(self, kind: str, challenge: bytes) -> bytes:
        client = {"type": kind, "challenge": encode_base64url(challenge), "origin": self.origin, "crossOrigin": False}
        return json.dumps(client).encode()

    def _credential(self, response: dict[str, str]) -> dict[str, Any]:
        name = encode_base64url(self.id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response, "clientExtensionResults": {}}
