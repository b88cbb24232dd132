"""The probe's throw-away operator: an honest gateway's keys, and the keys of everybody who is not the gateway, in one folder.

root.pem, probe.json              what the merchant under test pins, and who is who
NAME.pem, NAME.key                certificate chain and key of each party in `CAST`, honest and false
merchant-authority.{pem,key}      issues the merchant's own certificates
gateway-authority.{pem,key}       signs the list of the gateway's revoked ones; false-authority is its double under the second root
issued/KID.{pem,jws}              each chain that the merchant was given; the signed record of its signing certificate

Nothing here is worth anything: no operator whose root anybody else pins has these keys.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, ProtocolViolation
from hanbit.merchant import files
from hanbit.merchant.files import LineAddress, Registration
from hanbit.protocols.keys import make_certificates
from hanbit.protocols.signed import PinnedTrust, RegisteredKey, Signer

DAY_S: Final = 86_400
OLD_S: Final = 400 * DAY_S
"""The operator pretends to be so old: a certificate that has expired must have been issued once."""
LIFE_S: Final = 365 * DAY_S
OPERATOR: Final = "probe"
STRANGER: Final = "stranger"
"""Another operator altogether, with a root of its own."""
OTHER_MERCHANT: Final = "other"
_CONFIG: Final = "probe.json"
_ROOT: Final = "root.pem"
_ISSUED_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Part:
    """Whose key, for what, under which root, and when its certificate was issued (from now) and for how long."""

    role: tuple[str, ...]
    purpose: str
    root: str = "true"
    issued_s: int = 0
    life_s: int = LIFE_S


CAST: Final[Mapping[str, Part]] = {
    "gateway": Part(("gateway",), "gateway-sign"),
    "gateway-line": Part(("gateway",), "line"),
    "gateway-seal": Part(("gateway",), "gateway-seal"),
    "expired": Part(("gateway",), "gateway-sign", issued_s=-100 * DAY_S, life_s=90 * DAY_S),
    "early": Part(("gateway",), "gateway-sign", issued_s=30 * DAY_S),
    "revoked": Part(("gateway",), "gateway-sign"),
    "customer": Part(("customer", "2hZk0w3bQ1ePmZs9Xx7C4Q"), "customer-sign"),
    "other-merchant": Part(("merchant", OTHER_MERCHANT), "merchant-sign"),
    "other-merchant-line": Part(("merchant", OTHER_MERCHANT), "line"),
    "false-gateway": Part(("gateway",), "gateway-sign", root="false"),
    "false-line": Part(("gateway",), "line", root="false"),
    "stranger": Part(("gateway",), "gateway-sign", root="stranger"),
}
"""Everybody who signs something here. `false` is a second root with the very same names, `stranger` that of another operator."""


class _Config(msgspec.Struct, frozen=True):
    merchant: Annotated[str, msgspec.Meta(pattern=rf"^{ids.PARTY_ID.pattern}$(?!\n)")]
    code: str
    """SHA-256 of the enrolment code, in base64url."""
    pay_url: str
    line: LineAddress


@dataclass(frozen=True, slots=True)
class Operator:
    """The loaded folder."""

    folder: Path
    root: bytes
    cast: Mapping[str, Signer]
    merchant: str
    """The URN of the merchant under test."""
    registration: Registration
    code_hash: str
    gateway_authority: Authority
    false_authority: Authority
    """The gateway authority of the second root."""
    merchant_authority: Authority

    @property
    def gateway(self) -> Signer:
        """The honest gateway's signing key."""
        return self.cast["gateway"]

    @property
    def pin(self) -> str:
        """What the merchant pins: SHA-256 of the root's DER."""
        return ids.digest(self.root)

    def line_files(self, name: str) -> tuple[Path, Path]:
        """Certificate chain and key of a party for TLS."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    @property
    def root_file(self) -> Path:
        """The root as PEM."""
        return self.folder / _ROOT

    def issue(self, requests: Mapping[str, bytes], at: int, *, renewal: str | None = None) -> dict[str, tuple[bytes, ...]]:
        """Certificates for the merchant's requests by purpose (DER), kept with their signed record; `renewal` is the message that asked.

        ProtocolViolation for what is no request of this merchant.
        """
        chains = {}
        for purpose, request in requests.items():
            asked = certificates.read_request(request)
            if asked.purpose != purpose or purpose not in files.PURPOSES or asked.urn not in {"", self.merchant}:
                raise ProtocolViolation("request", f"not a request of this merchant for {purpose}")
            leaf = certificates.make_leaf(
                self.merchant_authority, urn=self.merchant, purpose=purpose, public=asked.public, at=at, lifetime_s=LIFE_S
            )
            chains[purpose] = (leaf, *self.merchant_authority.chain)
        if set(chains) != set(files.PURPOSES):
            raise ProtocolViolation("request", "one request for each purpose")
        for chain in chains.values():
            self._keep(chain, "pem", certificates.dump_chain_pem(chain))
        both = tuple(chains[purpose] for purpose in files.PURPOSES)
        how: Literal["code", "renewal"] = "code" if renewal is None else "renewal"
        req = None if renewal is None else ids.digest(renewal.encode("ascii"))
        record = make_certificates(self.gateway, self.merchant, both, how=how, at=at, req=req)
        self._keep(both[0], "jws", record.compact)
        return chains

    def record(self, kid: str) -> str | None:
        """The signed record of the signing certificate with this kid."""
        path = self.folder / "issued" / f"{kid}.jws"
        return path.read_text("ascii") if ids.DIGEST.fullmatch(kid) and path.exists() else None

    def _keep(self, chain: tuple[bytes, ...], kind: str, text: str) -> None:
        files.write_private(self.folder / "issued" / f"{certificates.kid(chain[0])}.{kind}", text.encode("ascii"))

    def trust(self) -> "MerchantTrust":
        """Whom the probe believes: the merchant under test, under the certificates that it was given."""
        chains = [certificates.load_chain_pem(path) for path in sorted((self.folder / "issued").glob("*.pem"))[:_ISSUED_MAX]]
        pinned = PinnedTrust(self.root, self.registration.operator, urn=self.merchant)
        return MerchantTrust(pinned, {certificates.kid(chain[0]): chain for chain in chains})

    def gateway_trust(self) -> PinnedTrust:
        """As the merchant trusts its gateway."""
        return PinnedTrust(self.root, self.registration.operator, urn=self.gateway.urn)

    def has_enrolled(self) -> bool:
        """Whether a merchant was given certificates."""
        return any((self.folder / "issued").glob("*.pem"))


@dataclass(frozen=True, slots=True)
class MerchantTrust:
    """The merchant's keys; an order names its certificate by kid alone."""

    pinned: PinnedTrust
    issued: Mapping[str, tuple[bytes, ...]]

    def key(self, kid: str, chain: tuple[bytes, ...], at: int) -> RegisteredKey:
        """The key of a certificate that was issued here."""
        if kid not in self.issued:
            raise ProtocolViolation("unknown_key", "not a certificate that the probe has issued to this merchant")
        return self.pinned.key(kid, chain or self.issued[kid], at)


def create(folder: Path, *, merchant: str, line: LineAddress, at: int) -> str:
    """Make the folder of a throw-away operator; returns the enrolment code, which may be used as often as one likes."""
    ids.check(ids.PARTY_ID, merchant, "merchant: 1 to 32 of a-z, 0-9 and inner hyphens")
    if merchant == OTHER_MERCHANT:
        raise BadInput(f"merchant: {OTHER_MERCHANT!r} is the other merchant's name here")
    if (folder / _CONFIG).exists():
        raise BadInput(f"{folder} is a probe's folder already")
    files.make_private(folder)
    files.make_private(folder / "issued")
    roots = {name: _Root.make(STRANGER if name == "stranger" else OPERATOR, at - OLD_S) for name in ("true", "false", "stranger")}
    for name, part in CAST.items():
        root = roots[part.root]
        issuer = root.merchants if part.role[0] == "merchant" else root.gateways
        key = keys.new_key()
        urn = ids.urn(root.operator, *part.role)
        leaf = certificates.make_leaf(
            issuer, urn=urn, purpose=part.purpose, public=key.public_key(), at=at + part.issued_s, lifetime_s=part.life_s
        )
        _save(folder, name, key, (leaf, *issuer.chain))
    for name, authority in (("gateway", roots["true"].gateways), ("merchant", roots["true"].merchants), ("false", roots["false"].gateways)):
        _save(folder, f"{name}-authority", authority.key, authority.chain)
    files.write_private(folder / _ROOT, certificates.dump_chain_pem([roots["true"].certificate]).encode())
    code = secrets.token_urlsafe(16)
    config = _Config(merchant, ids.digest(code.encode()), "https://pay.probe.localhost/pay", line)
    files.write_private(folder / _CONFIG, msgspec.json.encode(config))
    return code


def load(folder: Path) -> Operator:
    """Open a folder that `create` made; BadInput says what to do where there is none."""
    try:
        config = msgspec.json.decode((folder / _CONFIG).read_bytes(), type=_Config)
    except OSError as error:
        raise BadInput(f"{folder / _CONFIG}: {error.strerror}; make one with: hanbit merchant probe init {folder}") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadInput(f"{folder / _CONFIG}: {error}") from error
    cast = {}
    for name, part in CAST.items():
        urn = ids.urn(STRANGER if part.root == "stranger" else OPERATOR, *part.role)
        cast[name] = Signer.load(folder / f"{name}.pem", folder / f"{name}.key", urn=urn, purpose=part.purpose)
    merchant = ids.urn(OPERATOR, "merchant", config.merchant)
    return Operator(
        folder=folder,
        root=certificates.load_chain_pem(folder / _ROOT)[0],
        cast=cast,
        merchant=merchant,
        registration=Registration(
            operator=OPERATOR, merchant=merchant, gateway=cast["gateway"].urn, line=config.line, pay_url=config.pay_url, orders="signed"
        ),
        code_hash=config.code,
        gateway_authority=_authority(folder, "gateway"),
        merchant_authority=_authority(folder, "merchant"),
        false_authority=_authority(folder, "false"),
    )


@dataclass(frozen=True, slots=True)
class _Root:
    """A root with its two authorities; its own key is not kept."""

    operator: str
    certificate: bytes
    gateways: Authority
    merchants: Authority

    @classmethod
    def make(cls, operator: str, at: int) -> "_Root":
        key = keys.new_key()
        certificate = certificates.make_root(operator, key, at)
        top = Authority.of_root(key, certificate)

        def below(name: str, depth: int) -> Authority:
            private = keys.new_key()
            made = certificates.make_authority(top, operator, name, private.public_key(), depth, at)
            return Authority.below_root(private, [made])

        return cls(operator, certificate, below("gateway", 0), below("merchant", 1))


def _authority(folder: Path, name: str) -> Authority:
    path = folder / f"{name}-authority.pem"
    return Authority.below_root(keys.load_key(path.with_suffix(".key")), certificates.load_chain_pem(path))


def _save(folder: Path, name: str, key: EllipticCurvePrivateKey, chain: tuple[bytes, ...]) -> None:
    files.write_private(folder / f"{name}.pem", certificates.dump_chain_pem(chain).encode())
    keys.save_key(key, folder / f"{name}.key")
