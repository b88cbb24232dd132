"""Key files keep their secret and survive a crash; a JSON Web Key has one spelling."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from hanbit.crypto import keys
from hanbit.kernel.errors import BadInput, ProtocolViolation


def test_key_comes_back_from_its_file(tmp_path: Path) -> None:
    key = keys.new_key()
    for passphrase in (None, b"correct horse"):
        keys.save_key(key, tmp_path / "key.pem", passphrase)
        assert keys.load_key(tmp_path / "key.pem", passphrase).private_numbers() == key.private_numbers()


def test_key_file_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.save_key(keys.new_key(), tmp_path / "key.pem", None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_saving_leaves_no_other_file_behind(tmp_path: Path) -> None:
    keys.save_key(keys.new_key(), tmp_path / "key.pem")
    keys.save_key(keys.new_key(), tmp_path / "key.pem")
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_failed_save_keeps_the_old_key_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.pem"
    keys.save_key(keys.new_key(), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        keys.save_key(keys.new_key(), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]


def test_save_replaces_a_link_instead_of_writing_through_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "key.pem").symlink_to(tmp_path / "elsewhere")
    keys.save_key(keys.new_key(), tmp_path / "key.pem")
    assert (tmp_path / "elsewhere").read_text() == "untouched"


def test_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="empty passphrase"):
        keys.save_key(keys.new_key(), tmp_path / "key.pem", b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_key_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    keys.save_key(keys.new_key(), tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(BadInput, match="chmod 600"):
        keys.load_key(tmp_path / "key.pem")


def test_wrong_missing_and_needless_passphrases_are_told_apart_from_a_key(tmp_path: Path) -> None:
    keys.save_key(keys.new_key(), tmp_path / "locked.pem", b"right")
    keys.save_key(keys.new_key(), tmp_path / "open.pem")
    for name, passphrase, words in (
        ("locked.pem", b"wrong", "wrong passphrase"),
        ("locked.pem", None, "needs its passphrase"),
        ("open.pem", b"right", "needs no passphrase"),
    ):
        with pytest.raises(BadInput, match=words):
            keys.load_key(tmp_path / name, passphrase)


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize("what", ["absent", "empty", "text", "public", "P-384", "Ed25519", "too large"])
def test_file_that_is_no_key_of_ours_is_bad_input(tmp_path: Path, what: str) -> None:
    path = tmp_path / "key.pem"
    public = keys.new_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    content = {
        "empty": b"",
        "text": b"hello",
        "public": public,
        "P-384": _pem(ec.generate_private_key(ec.SECP384R1())),
        "Ed25519": _pem(ed25519.Ed25519PrivateKey.generate()),
        "too large": _pem(keys.new_key()) + b"\n" * keys.KEY_FILE_BYTES_MAX,
    }
    if what in content:
        path.touch(0o600)
        path.write_bytes(content[what])
    with pytest.raises(BadInput, match=r"key\.pem"):
        keys.load_key(path)


def test_openssl_reads_the_key_file(tmp_path: Path, openssl: str) -> None:
    keys.save_key(keys.new_key(), tmp_path / "key.pem", b"secret")
    read = subprocess.run(
        [openssl, "pkey", "-in", tmp_path / "key.pem", "-passin", "pass:secret", "-noout", "-text"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "prime256v1" in read.stdout


def test_jwk_comes_back() -> None:
    for _ in range(50):  # one key in 128 has a coordinate with a leading zero byte
        public = keys.new_key().public_key()
        assert keys.public_from_jwk(keys.public_jwk(public)) == public


def test_point_is_uncompressed() -> None:
    public = keys.new_key().public_key()
    numbers = public.public_numbers()
    assert keys.public_point(public) == b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


GOOD = keys.public_jwk(keys.new_key().public_key())


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        [],
        "key",
        {},
        {**GOOD, "kty": "RSA"},
        {**GOOD, "kty": "oct"},
        {**GOOD, "crv": "P-384"},
        {**GOOD, "crv": "p-256"},
        {**GOOD, "d": GOOD["x"]},
        {**GOOD, "kid": "x"},
        {**GOOD, "x": GOOD["y"]},
        {**GOOD, "x": 1},
        {**GOOD, "x": None},
        {**GOOD, "x": ""},
        {**GOOD, "x": GOOD["x"] + "="},
        {**GOOD, "x": GOOD["x"][:-1]},
        {**GOOD, "x": "AA" + GOOD["x"]},
        {**GOOD, "x": "A" * 43, "y": "A" * 43},
        {**GOOD, "x": "_" * 42 + "8"},
        {**GOOD, "x": "+" + GOOD["x"][1:]},
        {name: value for name, value in GOOD.items() if name != "y"},
    ],
    ids=[f"form {number}" for number in range(21)],  # not by content: each worker process has a key of its own
)
def test_jwk_in_any_other_form_is_refused(jwk: object) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        keys.public_from_jwk(jwk)
    assert refused.value.rule == "jwk"
