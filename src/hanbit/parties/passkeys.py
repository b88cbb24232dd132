"""Passkeys: enrolment and assertions, checked by the webauthn library against the operator's own site."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
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
ID_MAX, KEY_MAX = 1_400, 2_048
"""Letters of an id (at most 1,023 bytes by the standard) and of a public key: what an index takes, and an evidence file."""


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


class NewPasskey(NamedTuple):
    """What is kept of a passkey: its id and its public key, both base64url."""

    id: str
    key: str


def of_customer(reader: Reader, customer_id: str) -> list[Row]:
    """The active passkeys of a customer."""
    sql = "SELECT * FROM devices WHERE customer = ? AND kind = 'passkey' AND state = 'active' LIMIT ?"
    return reader.all(sql, customer_id, PASSKEYS_MAX)


def enrolment_challenge(server_key: bytes, session_hash: str) -> bytes:
    """The challenge of an enrolment in this web session; it need not be stored."""
    return mac(server_key, b"hanbit1 passkey\0" + session_hash.encode("ascii"))


def enrolment_options(reader: Reader, customer: Customer, site: Site, challenge: bytes) -> dict[str, Any]:
    """What the browser needs to make a customer's passkey (PublicKeyCredentialCreationOptionsJSON)."""
    known = [row["id"] for row in of_customer(reader, customer.id)]
    if len(known) >= PASSKEYS_MAX:
        raise BadInput(f"at most {PASSKEYS_MAX} passkeys")
    return creation_options(customer.webauthn_user, customer.login, customer.name, known, site=site, challenge=challenge)


def creation_options(user: str, login: str, name: str, known: Sequence[str], *, site: Site, challenge: bytes) -> dict[str, Any]:
    """PublicKeyCredentialCreationOptionsJSON for whoever this is; `known` are the ids of the passkeys that he has."""
    options = webauthn.generate_registration_options(
        rp_id=site.domain,
        rp_name=site.name,
        user_id=ids.decode_base64url(user),
        user_name=login,
        user_display_name=name,
        challenge=challenge,
        exclude_credentials=[PublicKeyCredentialDescriptor(id=ids.decode_base64url(one)) for one in known],
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
    )
    return dict(json.loads(options_to_json(options)))


def request_options(known: Sequence[str], *, site: Site, challenge: bytes) -> dict[str, Any]:
    """PublicKeyCredentialRequestOptionsJSON: one of these passkeys shall sign."""
    options = webauthn.generate_authentication_options(
        rp_id=site.domain,
        challenge=challenge,
        allow_credentials=[PublicKeyCredentialDescriptor(id=ids.decode_base64url(one)) for one in known],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return dict(json.loads(options_to_json(options)))


def verify_new(unverified: Any, *, site: Site, challenge: bytes) -> NewPasskey:
    """The passkey of a registration answer; whatever is wrong is ProtocolViolation("passkey")."""
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
    made = NewPasskey(bytes_to_base64url(verified.credential_id), bytes_to_base64url(verified.credential_public_key))
    if len(made.id) > ID_MAX or len(made.key) > KEY_MAX:
        raise ProtocolViolation("passkey", "larger than the standard allows")
    return made


def verify_use(unverified: Any, public: str, counter: int, *, site: Site, challenge: bytes) -> int:
    """The new counter of a passkey (its row's `public` and counter): it has signed this challenge, else ProtocolViolation("passkey")."""
    try:
        verified = webauthn.verify_authentication_response(
            credential=unverified,
            expected_challenge=challenge,
            expected_rp_id=site.domain,
            expected_origin=site.origin,
            credential_public_key=ids.decode_base64url(json.loads(public)["key"]),
            credential_current_sign_count=counter,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolViolation("passkey") from error
    return int(verified.new_sign_count)


def enrol(unverified: Any, *, customer: Customer, name: str, site: Site, challenge: bytes, at: int) -> Put:
    """The row of a new passkey, after its registration answer was verified; whatever is wrong is ProtocolViolation("passkey")."""
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise BadInput("name of the passkey: 1 to 40 characters")
    made = verify_new(unverified, site=site, challenge=challenge)
    return device_put(device_id=made.id, customer=customer.id, kind="passkey", name=name, public={"key": made.key}, at=at)


def check(reader: Reader, unverified: Any, *, site: Site, challenge: bytes, at: int) -> tuple[str, Put]:
    """Verify an assertion over this challenge; returns the customer's id and the device row with its new counter and this use.

    Whatever is wrong (unknown passkey, other site, other challenge, no user verification) is ProtocolViolation("passkey").
    """
    credential_id = unverified.get("id") if isinstance(unverified, dict) else None
    if not isinstance(credential_id, str) or len(credential_id) > ID_MAX:
        raise ProtocolViolation("passkey")
    row = reader.one("SELECT * FROM devices WHERE id = ? AND kind = 'passkey' AND state = 'active'", credential_id)
    if row is None:
        raise ProtocolViolation("passkey")
    counter = verify_use(unverified, row["public"], row["sign_count"], site=site, challenge=challenge)
    counted = {name: row[name] for name in row.keys()} | {"sign_count": counter, "used_at": at}  # noqa: SIM118 - a database row
    return row["customer"], Put("devices", counted, row["version"])
