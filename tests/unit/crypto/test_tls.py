"""The line's TLS: 1.3 only, both ends certified by the operator, and the party read from the certificate."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from hanbit.crypto import certificates, keys, tls
from hanbit.crypto.certificates import Authority
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import BadInput, ProtocolViolation
from tests.unit.crypto import drafts
from tests.unit.crypto.authorities import AT, DAY_S, OPERATOR, World, make_world

GATEWAY = f"urn:hanbit:{OPERATOR}:gateway"
SHOP = f"urn:hanbit:{OPERATOR}:merchant:shop"


@dataclass(frozen=True)
class Files:
    """One end's three files."""

    chain: Path
    key: Path
    root: Path

    def server(self) -> ssl.SSLContext:
        return tls.server_context(self.chain, self.key, self.root)

    def client(self) -> ssl.SSLContext:
        return tls.client_context(self.chain, self.key, self.root)


@pytest.fixture(scope="module")
def present() -> World:
    """OpenSSL looks at the machine's clock, so this world lives now."""
    return make_world(at=SystemClock().now())


def files(folder: Path, world: World, authority: Authority, urn: str, purpose: str = "line", *, name: str) -> Files:
    key = keys.new_key()
    made = Files(folder / f"{name}.chain", folder / f"{name}.key", folder / f"{name}.root")
    made.chain.write_text(certificates.dump_chain_pem(world.leaf(authority, urn, purpose, key=key)))
    keys.save_key(key, made.key)
    made.root.write_text(certificates.dump_chain_pem([world.root_der]))
    return made


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends in memory, until both are content."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="any.localhost"),
    ]
    done: set[int] = set()
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                continue
    assert done == {0, 1}
    with pytest.raises(ssl.SSLWantReadError):  # in TLS 1.3 the client learns of a refusal only now
        ends[1].read()
    return ends[0], ends[1]


def test_both_ends_know_each_other(tmp_path: Path, present: World) -> None:
    gateway = files(tmp_path, present, present.gateway, GATEWAY, name="gateway")
    shop = files(tmp_path, present, present.merchant, SHOP, name="shop")
    server, client = handshake(gateway.server(), shop.client())
    assert server.version() == client.version() == "TLSv1.3"
    seen = [end.getpeercert(binary_form=True) for end in (server, client)]
    urns = [tls.peer_urn(der or b"", present.root_der, present.at, OPERATOR) for der in seen]
    assert urns == [SHOP, GATEWAY]


def test_session_is_never_resumed(tmp_path: Path, present: World) -> None:
    gateway = files(tmp_path, present, present.gateway, GATEWAY, name="gateway")
    shop = files(tmp_path, present, present.merchant, SHOP, name="shop")
    _, client = handshake(gateway.server(), shop.client())
    assert client.session is None or not client.session.has_ticket


def test_peer_without_certificate_is_refused(tmp_path: Path, present: World) -> None:
    gateway = files(tmp_path, present, present.gateway, GATEWAY, name="gateway")
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.load_verify_locations(gateway.root)
    with pytest.raises(ssl.SSLError):
        handshake(gateway.server(), anonymous)


def test_peer_with_tls_1_2_is_refused(tmp_path: Path, present: World) -> None:
    gateway = files(tmp_path, present, present.gateway, GATEWAY, name="gateway")
    old = files(tmp_path, present, present.merchant, SHOP, name="shop").client()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(gateway.server(), old)


def test_peer_of_another_root_is_refused_on_both_ends(tmp_path: Path, present: World) -> None:
    other = make_world(at=present.at)
    gateway = files(tmp_path, present, present.gateway, GATEWAY, name="gateway")
    shop = files(tmp_path, present, present.merchant, SHOP, name="shop")
    stranger = files(tmp_path, other, other.merchant, SHOP, name="stranger")
    impostor = files(tmp_path, other, other.gateway, GATEWAY, name="impostor")
    for server, client in ((gateway, stranger), (impostor, shop)):
        with pytest.raises(ssl.SSLError):
            handshake(server.server(), client.client())


def test_signing_certificate_does_not_open_the_line(tmp_path: Path, present: World) -> None:
    gateway = files(tmp_path, present, present.gateway, GATEWAY, name="gateway")
    signer = files(tmp_path, present, present.merchant, SHOP, "merchant-sign", name="signer")
    with pytest.raises(ssl.SSLError):
        handshake(gateway.server(), signer.client())


def test_missing_and_locked_files_are_bad_input(tmp_path: Path, present: World) -> None:
    good = files(tmp_path, present, present.merchant, SHOP, name="good")
    locked = tmp_path / "locked"
    keys.save_key(keys.new_key(), locked, b"secret")
    for chain, key, root in (
        (tmp_path / "absent", good.key, good.root),
        (good.chain, tmp_path / "absent", good.root),
        (good.chain, good.key, tmp_path / "absent"),
        (good.chain, locked, good.root),
        (good.key, good.chain, good.root),
    ):
        with pytest.raises(BadInput, match="TLS file"):
            tls.server_context(chain, key, root)


def peer_refusal(der: bytes, world: World, at: int = AT, operator: str = OPERATOR) -> str:
    with pytest.raises(ProtocolViolation) as refused:
        tls.peer_urn(der, world.root_der, at, operator)
    return refused.value.rule


def rogue(folder: Path, world: World, *, issuer: str, name: str) -> Files:
    """A `line` certificate in another's name, made with the session authority whose key a merchant holds."""
    key = keys.new_key()
    draft = drafts.leaf(world.session, world.at, operator=OPERATOR, role="merchant", rest="other", purpose="line", issuer_rest=issuer)
    draft = draft.but(public=key.public_key())
    draft = draft.replacing(x509.SubjectKeyIdentifier(drafts.identifier(key.public_key())), critical=False)
    made = Files(folder / f"{name}.chain", folder / f"{name}.key", folder / f"{name}.root")
    made.chain.write_text(certificates.dump_chain_pem((draft.sign(), *world.session.chain)))
    keys.save_key(key, made.key)
    made.root.write_text(certificates.dump_chain_pem([world.root_der]))
    return made


def test_merchant_cannot_speak_for_another_with_his_session_authority(tmp_path: Path, present: World) -> None:
    """OpenSSL takes the whole chain, and the issuer's name gives it away; under a false issuer's name OpenSSL finds no chain."""
    gateway = files(tmp_path, present, present.gateway, GATEWAY, name="gateway")
    server, _ = handshake(gateway.server(), rogue(tmp_path, present, issuer="session:shop", name="honest").client())
    assert peer_refusal(server.getpeercert(binary_form=True) or b"", present, present.at) == "certificate_profile"
    with pytest.raises(ssl.SSLError):
        handshake(gateway.server(), rogue(tmp_path, present, issuer="merchant", name="false").client())


def test_signing_certificate_does_not_name_a_peer(world: World) -> None:
    assert peer_refusal(world.leaf(world.merchant, SHOP, "merchant-sign")[0], world) == "purpose"


def test_peer_outside_its_dates_or_operator_is_refused(world: World, other_operator: World) -> None:
    leaf = world.leaf(world.merchant, SHOP, "line")[0]
    assert tls.peer_urn(leaf, world.root_der, AT, OPERATOR) == SHOP
    assert peer_refusal(leaf, world, at=AT - 121) == "certificate_dates"
    assert peer_refusal(leaf, world, at=AT + DAY_S + 1) == "certificate_dates"
    foreign = other_operator.leaf(other_operator.merchant, "urn:hanbit:dul:merchant:shop", "line")[0]
    assert peer_refusal(foreign, world) == "certificate_operator"
    assert peer_refusal(leaf, other_operator) == "certificate_root"
    assert peer_refusal(b"", world) == "certificate_unreadable"
    assert peer_refusal(world.merchant.chain[0], world) == "certificate_issuer"
