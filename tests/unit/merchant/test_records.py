"""Lists of the revoked at a shop: forged, stale, older or swapped ones change nothing, and what is held survives a restart."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from hanbit.cli import main
from hanbit.crypto import certificates
from hanbit.crypto.certificates import Authority
from hanbit.crypto.keys import new_key, save_key, thumbprint
from hanbit.kernel.errors import BadInput, ProtocolViolation, Unavailable
from hanbit.merchant import enrolment, files, records
from hanbit.merchant.identity import Identity
from hanbit.merchant.records import Lists
from hanbit.parties import keyring
from hanbit.protocols import keys as role
from hanbit.protocols import signed
from hanbit.protocols.keys import Crl
from hanbit.protocols.signed import Signer, encode_der, head
from hanbit.settings import Settings
from tests.world import NOW, OPERATOR, enrolled

HOUR_S = 3600
GATEWAY = f"urn:hanbit:{OPERATOR}:gateway"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shop's enrolled folder."""
    made = enrolled()
    directory = tmp_path / "shop"
    files.make_private(directory)
    files.make_private(directory / "keys")
    for signer in (made.merchants["shop"], made.line_keys["shop"]):
        save_key(signer.key, files.key_path(directory, signer.purpose))
        files.write_private(files.chain_path(directory, signer.purpose), certificates.dump_chain_pem(signer.chain).encode())
    files.write_private(directory / files.ROOT, certificates.dump_chain_pem([made.root]).encode())
    registration = (
        f'{{"operator":"{OPERATOR}","merchant":"{made.merchants["shop"].urn}","gateway":"{GATEWAY}",'
        '"line":{"host":"line.localhost","port":8401},"pay_url":"https://pay.example/pay","orders":"signed"}'
    )
    files.write_private(directory / files.REGISTRATION, registration.encode())
    return directory


@pytest.fixture
def gateway() -> Signer:
    return keyring.load(enrolled().folder / "keys", Settings(operator=OPERATOR)).signer


def lists(folder: Path) -> Lists:
    return Lists(folder, files.read_registration(folder))


def crl(
    gateway: Signer,
    *,
    at: int = NOW,
    number: int = NOW,
    revoked: dict[int, int] | None = None,
    issuer: Authority | None = None,
    name: Literal["gateway", "merchant"] = "gateway",
) -> str:
    der = certificates.make_crl(issuer or enrolled().gateway_authority, revoked or {}, at, number)
    claims = Crl(**head(gateway, role.everybody(GATEWAY), at), authority=name, number=number, crl=encode_der(der))
    return signed.sign(claims, gateway).compact


def test_a_list_is_in_force_at_once_and_after_a_restart(folder: Path, gateway: Signer) -> None:
    serial = certificates.serial_of(gateway.chain[0])
    held = lists(folder)
    assert held.fault(NOW) == "no list of revoked certificates has come from the payment server yet"
    held.take(crl(gateway), NOW)
    held.take(crl(gateway, number=NOW + 5, revoked={serial: NOW}), NOW)
    for found in (held, lists(folder)):
        assert found.revoked() == {serial}
        assert found.fault(NOW) is None
        assert found.fault(NOW + 25 * HOUR_S) is None
        assert "hours ago" in str(found.fault(NOW + 25 * HOUR_S + 1))


def test_only_a_current_list_lets_the_gateway_be_believed(folder: Path, gateway: Signer) -> None:
    identity = Identity.load(folder)
    for at in (NOW, NOW + 26 * HOUR_S):
        with pytest.raises(Unavailable):
            identity.guarded.key(gateway.kid, gateway.chain, at)
        identity.lists.take(crl(gateway, at=at, number=at), at)
        assert identity.guarded.key(gateway.kid, gateway.chain, at).revoked_at is None
    at = NOW + 27 * HOUR_S
    identity.lists.take(crl(gateway, at=at, number=at, revoked={certificates.serial_of(gateway.chain[0]): at}), at)
    assert identity.guarded.key(gateway.kid, gateway.chain, at).revoked_at == at


def test_an_older_list_or_another_under_the_same_number_is_refused(folder: Path, gateway: Signer) -> None:
    held, newest = lists(folder), crl(gateway, number=NOW + 1, revoked={7: NOW})
    held.take(newest, NOW)
    held.take(newest, NOW)
    for older in (crl(gateway, number=NOW), crl(gateway, number=NOW + 1), crl(gateway, number=1)):
        with pytest.raises(ProtocolViolation, match="crl_number"):
            held.take(older, NOW)
    assert held.revoked() == lists(folder).revoked() == {7}


@pytest.mark.parametrize("at", [NOW - 26 * HOUR_S, NOW + HOUR_S])
def test_a_stale_list_or_one_of_tomorrow_is_refused(folder: Path, gateway: Signer, at: int) -> None:
    made = enrolled()
    der = certificates.make_crl(made.gateway_authority, {}, at, NOW)
    claims = Crl(**head(gateway, role.everybody(GATEWAY), NOW), authority="gateway", number=NOW, crl=encode_der(der))
    held = lists(folder)
    with pytest.raises(ProtocolViolation, match="crl_dates"):
        held.take(signed.sign(claims, gateway).compact, NOW)
    assert held.fault(NOW) is not None


def test_a_list_of_another_authority_or_with_another_number_in_its_message_is_refused(folder: Path, gateway: Signer) -> None:
    made, held = enrolled(), lists(folder)
    forger = Authority(new_key(), made.gateway_authority.certificate, made.gateway_authority.chain)
    for forged, rule in (
        (crl(gateway, issuer=made.merchant_authority), "crl_profile"),
        (crl(gateway, name="merchant"), "crl_profile"),
        (crl(gateway, issuer=forger), "crl_signature"),
    ):
        with pytest.raises(ProtocolViolation, match=rule):
            held.take(forged, NOW)
    der = certificates.make_crl(made.gateway_authority, {}, NOW, 5)
    lied = Crl(**head(gateway, role.everybody(GATEWAY), NOW), authority="gateway", number=6, crl=encode_der(der))
    with pytest.raises(ProtocolViolation, match="crl_number"):
        held.take(signed.sign(lied, gateway).compact, NOW)
    garbage = Crl(**head(gateway, role.everybody(GATEWAY), NOW), authority="gateway", number=6, crl="AAAA")
    with pytest.raises(ProtocolViolation, match="crl_unreadable"):
        held.take(signed.sign(garbage, gateway).compact, NOW)
    own = Crl(**head(gateway, made.merchants["shop"].urn, NOW), authority="gateway", number=6, crl=encode_der(der))
    with pytest.raises(ProtocolViolation, match="aud"):
        held.take(signed.sign(own, gateway).compact, NOW)
    assert held.fault(NOW) is not None


def test_a_merchant_cannot_send_a_list(folder: Path) -> None:
    shop = replace(enrolled().merchants["shop"], purpose="gateway-sign")
    with pytest.raises(ProtocolViolation):
        lists(folder).take(crl(shop), NOW)


def test_a_full_disk_does_not_keep_a_list_from_being_in_force(folder: Path, gateway: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    held = lists(folder)
    monkeypatch.setattr(files, "write_private", full)
    held.take(crl(gateway), NOW)
    assert held.fault(NOW) is None
    assert lists(folder).fault(NOW) is not None


# --- the shop's own keys on its own disk --------------------------------------------------------------------------------------------------


def test_the_key_card_is_of_the_first_key_whatever_is_in_use(folder: Path) -> None:
    card = enrolment.key_card(folder)
    assert card.thumbprint == thumbprint(enrolled().merchants["shop"].key.public_key())
    (folder / "keys-2").mkdir()
    files.use_generation(folder, 2)
    assert files.key_path(folder, "line") == folder / "keys-2" / "line.pem"
    assert enrolment.key_card(folder) == card


@pytest.mark.parametrize("content", ["", "two", "-1", "0x2", "9999999", "2\n2", "3"])
def test_a_damaged_generation_is_named_and_no_key_is_guessed(folder: Path, content: str) -> None:
    (folder / "keys-2").mkdir()
    (folder / files.GENERATION).write_text(content)
    with pytest.raises(BadInput, match="generation"):
        files.key_path(folder, "line")


def test_staff_see_certificates_and_key_card_at_a_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["merchant", "certificates"], ["merchant", "key-card"]):
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--directory", str(folder), "--json"])
        assert left.value.code == 0, capsys.readouterr()
    shown = capsys.readouterr().out
    assert enrolled().merchants["shop"].kid in shown
    assert thumbprint(enrolled().merchants["shop"].key.public_key()) in shown
    assert records.own_certificates(folder, at=NOW)[0].asked
