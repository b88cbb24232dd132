"""openssl and panva's jose, which know nothing of us, accept what we sign and seal, refuse what was altered, and make what we open."""

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanbit.crypto import certificates
from hanbit.crypto.keys import public_jwk
from hanbit.kernel import ids
from hanbit.protocols import sealed
from hanbit.protocols.redirect import customer
from hanbit.protocols.redirect.messages import Consent, Notice
from hanbit.protocols.sealed import LOGIN_TYP, PAY_TYP
from hanbit.protocols.signed import Signer, head, sign
from tests.unit.wallet.parties import AT, DIGEST, bank, forger, make_keys, make_opening, make_order, make_receipt, open_key, redirect

SCRIPT = Path(__file__).with_name("verify-with-openssl.sh")
NODE = Path(__file__).parents[1] / "node"
RUN_S = 60


def messages() -> dict[str, tuple[str, Signer]]:
    """One of each direction, as they are sent, with who signed it. An order has no chain inside (BARE)."""
    order = make_order()
    compact = make_keys(order)
    opening = customer.verify_opening(msgspec.json.encode(make_opening(order, compact)), redirect=redirect(order), pin=bank().pin, at=AT)
    hong, shop, gateway = bank().customer(), bank().shop, bank().gateway
    notice = Notice(
        **head(gateway, shop.urn, AT),
        payment="P" * 22,
        tid="t" * 22,
        amount="220000",
        currency="KRW",
        order=order.hash,
        exp=AT + 600,
        prev=order.hash,
    )
    consent = Consent(**head(hong, gateway.urn, AT), core=DIGEST, order=order.hash)
    return {
        "order": (order.compact, shop),
        "keys": (compact, gateway),
        "notice": (sign(notice, gateway).compact, gateway),
        "consent": (sign(consent, hong).compact, hong),
        "receipt": (make_receipt(opening), gateway),
    }


def altered(compact: str) -> dict[str, str]:
    """One letter of the payload, of the signature; the signature of another message."""
    header, payload, signature = compact.split(".")
    twisted = "A" if signature[10] != "A" else "B"
    changed = json.loads(ids.decode_base64url(payload))
    changed["iat"] += 1
    return {
        "payload": f"{header}.{ids.encode_base64url(json.dumps(changed).encode())}.{signature}",
        "signature": f"{header}.{payload}.{signature[:10]}{twisted}{signature[11:]}",
        "length": f"{header}.{payload}.{signature[:-4]}",
    }


def by_openssl(compact: str, root: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "message.jws").write_text(compact)
    (folder / "root.pem").write_text(certificates.dump_chain_pem([root]))
    command: list[str | Path] = ["bash", SCRIPT, folder / "message.jws", folder / "root.pem", str(AT)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S)


@pytest.mark.parametrize("kind", ["keys", "notice", "consent", "receipt"])
def test_openssl_verifies_what_we_signed(openssl: str, kind: str, tmp_path: Path) -> None:
    compact, signer = messages()[kind]
    done = by_openssl(compact, bank().root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Verified OK", f"signed by {signer.urn}"]
    # The same name under another root, and every alteration, is refused.
    assert by_openssl(compact, forger().root, tmp_path).returncode != 0
    for what, bad in altered(compact).items():
        refused = by_openssl(bad, bank().root, tmp_path)
        assert refused.returncode != 0, what
        assert "Verified OK" not in refused.stdout, what


def by_node(node: str, script: str, given: Any) -> Any:
    done = subprocess.run([node, NODE / script], input=json.dumps(given), capture_output=True, text=True, check=False, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_jose_verifies_what_we_signed_and_refuses_what_was_altered(node: str) -> None:
    asked, expected = [], []
    for compact, signer in messages().values():
        certificate = certificates.dump_chain_pem([signer.chain[0]])
        header, payload, _ = compact.split(".")
        asked.append({"compact": compact, "certificate": certificate})
        expected.append({"header": json.loads(ids.decode_base64url(header)), "payload": json.loads(ids.decode_base64url(payload))})
        others = certificates.dump_chain_pem([forger().shop.chain[0]])
        asked.append({"compact": compact, "certificate": others})
        asked += [{"compact": bad, "certificate": certificate} for bad in altered(compact).values()]
        expected += [{"refused": "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"}] * 4
    assert by_node(node, "verify-jws.mjs", asked) == expected


def test_jose_opens_what_we_sealed_and_we_open_what_it_seals(node: str) -> None:
    order = make_order()
    compact = make_keys(order)
    opening = customer.verify_opening(msgspec.json.encode(make_opening(order, compact)), redirect=redirect(order), pin=bank().pin, at=AT)
    sealing = customer.begin(opening)
    session = sealing.session
    core = customer.make_core(opening, "a1")
    auth = customer.auth_password("2580")
    login = customer.seal_login(sealing, login_id="hong", password="correct horse")
    pay = customer.seal_pay(sealing, core, auth)
    private = bank().seal_key
    kid = certificates.kid(bank().seal)
    scalar = private.private_numbers().private_value.to_bytes(32, "big")
    place = {"ctx": session.ctx, "n": session.n, "tid": session.tid}
    other_sk = bytes(range(32))
    plain = {
        "key": {"sk": ids.encode_base64url(other_sk), **place},
        "login": {"method": "password", "id": "홍길동", "password": "한빛 password"},
        "pay": sealed.pay_plain(core, auth),
    }
    given = {
        "seal": {**public_jwk(private.public_key()), "d": ids.encode_base64url(scalar)},
        "kid": kid,
        **place,
        "key": sealing.key,
        "login": login,
        "pay": pay,
        "plain": plain,
    }
    answer = by_node(node, "verify-jwe.mjs", given)
    opened, made = answer["opened"], answer["made"]

    # Theirs of ours: headers as the protocol says, plaintexts as we meant them.
    epk = opened["key"]["header"].pop("epk")
    assert set(epk) == {"kty", "crv", "x", "y"}
    assert opened["key"]["header"] == {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "typ": "hanbit-key", "kid": kid}
    assert opened["key"]["plain"] == {"sk": ids.encode_base64url(session.secret), **place}
    for name, typ in (("login", LOGIN_TYP), ("pay", PAY_TYP)):
        header = opened[name]["header"]
        assert header.pop("sequence") >= 1
        assert header == {"alg": "dir", "enc": "A256GCM", "typ": typ, "ctx": session.ctx, "tid": session.tid}
    assert opened["login"]["plain"] == {"method": "password", "id": "hong", "password": "correct horse"}
    assert opened["pay"]["plain"] == plain["pay"]

    # Ours of theirs.
    again = open_key(bank(), made["key"], opening.keys.claims)
    assert again.secret == other_sk
    assert sealed.open_login(made["login"], again) == plain["login"]
    assert sealed.open_pay(made["pay"], again).core_text == core
