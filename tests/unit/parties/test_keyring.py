"""The operator's keys on disk: private, complete or refused, and a stop in the middle of anything leaves a folder that opens."""

import contextlib
import shutil
import ssl
from pathlib import Path

import pytest

from hanbit.crypto import certificates
from hanbit.crypto.keys import destroy
from hanbit.kernel.errors import BadInput
from hanbit.parties import keyring
from hanbit.parties.keyring import Keyring
from hanbit.settings import Settings
from tests.world import NOW, OPERATOR, enrolled

SETTINGS = Settings(operator=OPERATOR)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of an operator's keys."""
    return Path(shutil.copytree(enrolled().folder / "keys", tmp_path / "keys"))


def load(folder: Path) -> Keyring:
    return keyring.load(folder, SETTINGS)


def test_every_private_file_is_its_owners_alone(folder: Path) -> None:
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


@pytest.mark.parametrize("name", ["root.pem", "server.key", "pepper", "gateway-sign.key", "gateway-sign.pem", "line.key", "line.pem"])
def test_a_missing_or_open_file_is_named(folder: Path, name: str) -> None:
    (folder / name).chmod(0o640)
    with pytest.raises(BadInput, match=name):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(BadInput, match=name):
        load(folder)


@pytest.mark.parametrize("name", ["server.key", "pepper"])
@pytest.mark.parametrize("content", [b"", b"short"])
def test_an_empty_or_short_secret_fails_closed(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(BadInput):
        load(folder)


def renewed(keys: Keyring, purpose: str, at: int) -> None:
    """What the server does, without the book."""
    keys.adopt(keys.prepare(purpose, at))


def test_a_new_sealing_key_comes_an_hour_before_the_old_one_ends_and_old_ones_are_destroyed(folder: Path) -> None:
    keys = load(folder)
    first = keys.seal
    assert keys.due(NOW + 23 * 3600 - 1) == ()
    assert keys.due(NOW + 23 * 3600) == ("gateway-seal",)
    renewed(keys, "gateway-seal", NOW + 23 * 3600)
    assert keys.seal.kid != first.kid
    assert keys.seal_by_kid(first.kid) is first
    assert keys.due(NOW + 25 * 3600 + 1800) == ()
    keys.destroy_old_seals(NOW + 25 * 3600 + 1800)
    assert keys.seal_by_kid(first.kid) is first
    keys.destroy_old_seals(NOW + 25 * 3600 + 1801)
    assert keys.seal_by_kid(first.kid) is None
    assert [path.name for path in folder.glob("seal-*.key*")] == [f"seal-{NOW + 23 * 3600}.key"]
    assert load(folder).seal.kid == keys.seal.kid


@pytest.mark.parametrize("purpose", ["gateway-sign", "line"])
def test_the_gateways_own_keys_are_renewed_before_two_thirds_of_their_life(folder: Path, purpose: str) -> None:
    keys = load(folder)
    signer = {"gateway-sign": keys.signer, "line": keys.line}[purpose]
    first, day = signer.kid, 24 * 3600
    assert purpose not in keys.due(NOW + 53 * day)
    assert purpose in keys.due(NOW + 54 * day)
    renewed(keys, purpose, NOW + 54 * day)
    assert signer.kid != first
    assert purpose not in keys.due(NOW + 54 * day)
    again = load(folder)
    assert {"gateway-sign": again.signer, "line": again.line}[purpose].kid == signer.kid
    assert [path.name for path in folder.glob(f"{purpose}*.key*")] == [f"{purpose}-{NOW + 54 * day}.key"]
    assert (folder / f"{purpose}.pem").exists(), "certificates are evidence and stay"


def test_a_clock_that_was_set_back_does_not_bring_an_old_key_back(folder: Path) -> None:
    keys = load(folder)
    renewed(keys, "gateway-sign", NOW + 1000)
    renewed(keys, "gateway-sign", NOW + 500)
    assert load(folder).signer.kid == keys.signer.kid


def test_two_keys_of_one_second_never_share_a_file(folder: Path) -> None:
    keys = load(folder)
    first, second = keys.prepare("gateway-sign", NOW + 1000), keys.prepare("gateway-sign", NOW + 1000)
    keys.adopt(first)
    keys.adopt(second)
    assert load(folder).signer.kid == keys.signer.kid == second.signer.kid


def test_near_the_authoritys_own_end_no_key_is_renewed_again_and_again(folder: Path) -> None:
    keys = load(folder)
    end = keys.not_after()["gateway authority"]
    renewed(keys, "gateway-sign", end - 3600)
    assert keys.not_after()["gateway-sign"] == end
    assert "gateway-sign" not in keys.due(end - 1)


def test_a_renewed_line_certificate_is_shown_by_the_context_that_is_in_use(folder: Path) -> None:
    keys = load(folder)
    context = keys.line_tls.server()
    renewed(keys, "line", NOW + 1000)
    assert shown_by(context, folder) == keys.line.chain[0]


def shown_by(context: ssl.SSLContext, folder: Path) -> bytes:
    """The certificate that a server with this context shows, by a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    client = asking.wrap_bio(to_client, to_server)
    for end in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return der


@pytest.mark.parametrize("purpose", ["gateway-seal", "gateway-sign", "line"])
def test_a_stop_while_a_key_is_made_leaves_a_folder_that_opens(folder: Path, purpose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = load(folder)
    in_use = keys.seal.kid, keys.signer.kid, keys.line.kid

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("keys.save_key", "write_secret"):
        monkeypatch.setattr(f"hanbit.parties.keyring.{name}", stop)
        with pytest.raises(KeyboardInterrupt):
            keys.prepare(purpose, NOW + 1)
        monkeypatch.undo()
        left_as_it_was(folder, in_use)
    keys.prepare(purpose, NOW + 1)
    left_as_it_was(folder, in_use)
    keys.prepare(purpose, NOW + 1).discard()
    left_as_it_was(folder, in_use)


def left_as_it_was(folder: Path, in_use: tuple[str, str, str]) -> None:
    """Whoever holds the folder next finds the keys that were in use, and nothing of the one that nobody knows."""
    keyring.tidy_up(folder)
    again = load(folder)
    assert (again.seal.kid, again.signer.kid, again.line.kid) == in_use
    assert not list(folder.glob("*.pending*")) + list(folder.glob(f"*-{NOW + 1}*"))


@pytest.mark.parametrize("stopped_at", ["os.fsync", "secrets.token_bytes"])
def test_a_stop_while_a_sealing_key_is_destroyed_is_finished_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    keys = load(folder)
    renewed(keys, "gateway-seal", NOW + 23 * 3600)

    def stop(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"hanbit.crypto.keys.{stopped_at}", stop)
    with pytest.raises(KeyboardInterrupt):
        destroy(folder / f"seal-{NOW}.key")
    monkeypatch.undo()
    keyring.tidy_up(folder)
    again = load(folder)
    assert again.seal.kid == keys.seal.kid
    assert len(again.seals) == 1
    assert not list(folder.glob(f"seal-{NOW}.key*"))


def test_leaves_are_issued_by_the_authority_of_their_role(folder: Path) -> None:
    keys = load(folder)
    public = keys.seal.private.public_key()
    for role, purpose, authority in (
        ("merchant:shop", "merchant-sign", keys.merchant_authority),
        ("customer:x", "customer-sign", keys.gateway_authority),
    ):
        chain = keys.issue(urn=f"urn:hanbit:bank:{role}", purpose=purpose, public=public, at=NOW)
        assert chain[1:] == tuple(authority.chain)
        verified = certificates.verify_chain(chain, root=keys.root, at=NOW, operator=OPERATOR)
        assert (verified.urn, verified.purpose) == (f"urn:hanbit:bank:{role}", purpose)
    assert keys.seal_chain()[0] == keys.seal.certificate


def test_secrets_do_not_show_in_a_printed_keyring(folder: Path) -> None:
    shown = repr(load(folder))
    for name in ("server.key", "pepper"):
        assert repr((folder / name).read_bytes()) not in shown
    with pytest.raises(FileExistsError):
        keyring.write_secret(folder / "pepper", b"another")
