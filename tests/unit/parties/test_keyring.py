"""The operator's keys on disk: private, complete or refused, and a stop in the middle of anything leaves a folder that opens."""

import shutil
from pathlib import Path

import pytest

from hanbit.crypto import certificates
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


def test_a_new_sealing_key_comes_an_hour_before_the_old_one_ends_and_old_ones_are_destroyed(folder: Path) -> None:
    keys = load(folder)
    first = keys.seal
    assert keys.rotate_seal(NOW + 23 * 3600 - 1) is None
    assert keys.rotate_seal(NOW + 23 * 3600) is not None
    assert keys.seal.kid != first.kid
    assert keys.seal_by_kid(first.kid) is first
    assert keys.rotate_seal(NOW + 25 * 3600 + 1800) is None
    assert keys.seal_by_kid(first.kid) is first
    keys.rotate_seal(NOW + 25 * 3600 + 1801)
    assert keys.seal_by_kid(first.kid) is None
    assert [path.name for path in folder.glob("seal-*.key*")] == [f"seal-{NOW + 23 * 3600}.key"]
    assert load(folder).seal.kid == keys.seal.kid


def test_a_stop_while_a_sealing_key_is_made_leaves_a_folder_that_opens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = load(folder)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("keys.save_key", "write_secret"):
        monkeypatch.setattr(f"hanbit.parties.keyring.{name}", stop)
        with pytest.raises(KeyboardInterrupt):
            keys.rotate_seal(NOW + 23 * 3600 + 1)
        monkeypatch.undo()
        assert load(folder).seal.kid == keys.seal.kid
        for path in folder.glob(f"seal-{NOW + 23 * 3600 + 1}.*"):
            path.unlink()


@pytest.mark.parametrize("stopped_at", ["os.fsync", "secrets.token_bytes"])
def test_a_stop_while_a_sealing_key_is_destroyed_is_finished_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: str
) -> None:
    keys = load(folder)
    keys.rotate_seal(NOW + 23 * 3600)

    def stop(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"hanbit.parties.keyring.{stopped_at}", stop)
    with pytest.raises(KeyboardInterrupt):
        keyring.destroy(folder / f"seal-{NOW}.key")
    monkeypatch.undo()
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
