"""Passkeys: enrolment and assertions, checked by the webauthn library against the operator's own site."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers import bytes_to_base64url, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from hanbit.crypto.envelopes import mac
from hanbit.db.change import Put
from hanbit.db.reading import Reader, Row
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.parties.customers import Customer
from hanbit.parties.enrolment import device_put

PASSKEYS_MAX = 20
NAME_MAX = 40


@dataclass(frozen=True, slots=True)
class Site:
    """What an assertion must have been made for: the site's domain, origin and name."""

    domain: str
    origin: str
    name: str

    @classmethod
    def of(cls, public_url: str, name: str) -> "Site":
        """The site of the customers' public address."""
        parts = urlsplit(public_url)
        return cls(domain=parts.hostname or "", origin=f"{parts.scheme}://{parts.netloc}", name=name)


def of_customer(reader: Reader, customer_id: str) -> list[Row]:
    """The active passkeys of a customer."""
    sql = "SELECT * FROM devices WHERE customer = ? AND kind = 'passkey' AND state = 'active' LIMIT ?"
    return reader.all(sql, customer_id, PASSKEYS_MAX)


def enrolment_challenge(server_key: bytes, session_hash: str) -> bytes:
    """The challenge of an enrolment in this web session; it need not be stored."""
    return mac(server_key, b"hanbit1 passkey\0" + session_hash.encode("ascii"))


def enrolment_options(reader: Reader, customer: Customer, site: Site, challenge: bytes) -> dict[str, Any]:
    """What the browser needs to make a passkey (PublicKeyCredentialCreationOptionsJSON)."""
    known = [PublicKeyCredentialDescriptor(id=ids.decode_base64url(row["id"])) for row in of_customer(reader, customer.id)]
    if len(known) >= PASSKEYS_MAX:
        raise BadInput(f"at most {PASSKEYS_MAX} passkeys")
    options = webauthn.generate_registration_options(
        rp_id=site.domain,
        rp_name=site.name,
        user_id=ids.decode_base64url(customer.webauthn_user),
        user_name=customer.login,
        user_display_name=customer.name,
        challenge=challenge,
        exclude_credentials=known,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
    )
    return dict(json.loads(options_to_json(options)))


def enrol(unverified: Any, *, customer: Customer, name: str, site: Site, challenge: bytes, at: int) -> Put:
    """The row of a new passkey, after its registration answer was verified; whatever is wrong is ProtocolViolation("passkey")."""
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise BadInput("name of the passkey: 1 to 40 characters")
    try:
        verified = webauthn.verify_registration_response(
            credential=unverified,
            expected_challenge=challenge,
            expected_rp_id=site.domain,
            expected_origin=site.origin,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolViolation("passkey", "the browser's answer does not verify") from error
    public = {"key": bytes_to_base64url(verified.credential_public_key)}
    device_id = bytes_to_base64url(verified.credential_id)
    return device_put(device_id=device_id, customer=customer.id, kind="passkey", name=name, public=public, at=at)


def check(reader: Reader, unverified: Any, *, site: Site, challenge: bytes) -> tuple[str, Put]:
    """Verify an assertion over this challenge; returns the customer's id and the device row with its new counter.

    Whatever is wrong (unknown passkey, other site, other challenge, no user verification) is ProtocolViolation("passkey").
    """
    credential_id = unverified.get("id") if isinstance(unverified, dict) else None
    if not isinstance(credential_id, str) or len(credential_id) > 1400:  # noqa: PLR2004 - a credential id has at most 1023 bytes
        raise ProtocolViolation("passkey")
    row = reader.one("SELECT * FROM devices WHERE id = ? AND kind = 'passkey' AND state = 'active'", credential_id)
    if row is None:
        raise ProtocolViolation("passkey")
    try:
        verified = webauthn.verify_authentication_response(
            credential=unverified,
            expected_challenge=challenge,
            expected_rp_id=site.domain,
            expected_origin=site.origin,
            credential_public_key=ids.decode_base64url(json.loads(row["public"])["key"]),
            credential_current_sign_count=row["sign_count"],
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolViolation("passkey") from error
    counted = {name: row[name] for name in row.keys()} | {"sign_count": verified.new_sign_count}  # noqa: SIM118 - a database row
    return row["customer"], Put("devices", counted, row["version"])
