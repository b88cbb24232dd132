"""The conformance kit finds what is wrong, and only that: our own shop takes nothing wrongly, a shop without a check is caught by name."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from hanbit.crypto import certificate_profile as profile
from hanbit.crypto import certificates
from hanbit.crypto.certificates import VerifiedCertificate
from hanbit.kernel import ids
from hanbit.kernel.errors import ProtocolViolation
from hanbit.merchant import files, line_client
from hanbit.merchant.inbox import Inbox
from hanbit.merchant.probe.table import CASES
from hanbit.merchant.purchase_desk import PurchaseDesk
from hanbit.merchant.records import Lists
from hanbit.protocols import signed
from hanbit.protocols.dual_signature.messages import Authorization
from hanbit.protocols.line import Acknowledgement, Greeting, HelloFromGateway
from hanbit.protocols.redirect import merchant as role
from hanbit.protocols.redirect.messages import Notice
from tests.flows import probe_world

Patch = Callable[[pytest.MonkeyPatch], None]
CONTROLS = frozenset(case.name for case in CASES if case.group == "control")
NEIGHBOURS = frozenset(
    {
        "amount_lower",
        "order_hash",
        "aud_other_merchant",
        "by_false_gateway",
        "altered",
        "header_jwk",
        "amount_float",
        "settled_amount",
        "closed_foreign",
        "authorization_aud",
        "authorization_unasked",
    }
)
"""Cases that every mutant also meets in the short run, so that a kit which cries at everything is found out."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    asyncio.run(probe_world.enrol(folder, files.LineAddress(host="127.0.0.1", port=8410)))
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "parties")
    return tmp_path / "parties"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # Each refusal is a warning of the shop's: a hundred of them are the point here.
    logging.getLogger("hanbit.merchant").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("hanbit.merchant").setLevel(logging.NOTSET)


# --- mutants: our own shop without one check ----------------------------------------------------------------------------------------------


def _not_compared(reason: str) -> Patch:
    """R9 finds this difference and takes no notice of it."""
    compare = role.Merchant.compare

    def careless(self: role.Merchant, *arguments: Any, **options: Any) -> str | None:
        found = compare(self, *arguments, **options)
        return None if found == reason else found

    return lambda patch: patch.setattr(role.Merchant, "compare", careless)


def _not_verified(*rules: str) -> Patch:
    """A verifier that lets messages pass which break one of these rules; each case breaks one rule alone."""
    verify = signed.verify

    def careless(unverified: str, kind: Any, **options: Any) -> Any:
        try:
            return verify(unverified, kind, **options)
        except ProtocolViolation as violation:
            if violation.rule not in rules:
                raise
        claims = json.loads(ids.decode_base64url(unverified.split(".")[1]))
        if "amount" in claims:
            claims["amount"] = str(int(float(claims["amount"])))
        if kind is Notice:
            claims.setdefault("exp", claims["iat"] + 600)
        return signed.SignedMessage(compact=unverified, hash=ids.digest(unverified.encode()), kid="", claims=msgspec.convert(claims, kind))

    return lambda patch: patch.setattr(signed, "verify", careless)


def _any_chain(patch: pytest.MonkeyPatch) -> None:
    def believe(chain: tuple[bytes, ...], **_: Any) -> VerifiedCertificate:
        leaf = profile.Content.read(x509.load_der_x509_certificate(chain[0]))
        return VerifiedCertificate(
            kid=certificates.kid(chain[0]),
            urn=leaf.urn.text,
            purpose=leaf.purpose,
            public=leaf.public,
            chain=chain,
            not_before=leaf.not_before,
            not_after=leaf.not_after,
            serials=(leaf.serial,),
        )

    patch.setattr(certificates, "verify_chain", believe)


def _no_lists(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lists, "revoked", lambda _: frozenset())


def _any_list(patch: pytest.MonkeyPatch) -> None:
    def careless(self: Lists, unverified: str, at: int) -> None:
        new = self._read(unverified, at)
        self._held[new.message.claims.authority] = new

    patch.setattr(Lists, "take", careless)


def _no_exp(patch: pytest.MonkeyPatch) -> None:
    def careless(self: role.Merchant, unverified: str, *, at: int) -> Any:
        return signed.verify(unverified, Notice, trust=self.trust, audience=self.signer.urn, at=at, sender=self.gateway)

    patch.setattr(role.Merchant, "verify_notice", careless)


def _any_outcome(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(role.Merchant, "check_outcome", lambda *_: None)


def _any_authorization(patch: pytest.MonkeyPatch) -> None:
    """Verified, and never held against what was asked: the way of a shop that keeps no book of its requests."""

    async def careless(self: PurchaseDesk, unverified: str, _: Any) -> str | None:
        message = unverified.partition("\n")[0]
        trust, me = self._orders._role.trust, self._orders._role.signer
        found = signed.verify(message, Authorization, trust=trust, audience=me.urn, at=self._clock.now(), sender=self._orders._role.gateway)
        if found.claims.result == "declined":
            raise ProtocolViolation("req")
        claims = signed.head(me, self._orders._role.gateway, self._clock.now())
        return signed.sign(Acknowledgement(**claims, req=(found.hash,)), me).compact

    patch.setattr(PurchaseDesk, "receive", careless)


def _any_line(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(line_client.LineClient, "_proved", lambda self, _: self._gateway_urn)


def _any_hello(patch: pytest.MonkeyPatch) -> None:
    def careless(unverified: str, *_: Any, **__: Any) -> Greeting[HelloFromGateway]:
        return Greeting(msgspec.convert(signed.peek_claims(unverified), HelloFromGateway), 0, "")

    patch.setattr(line_client, "read_hello", careless)


def _nothing(_: pytest.MonkeyPatch) -> None:
    return


MUTANTS: dict[str, tuple[Patch, set[str]]] = {
    "amount not compared": (_not_compared("amount_mismatch"), {"amount_lower", "amount_higher"}),
    "currency not compared": (_not_compared("currency_mismatch"), {"currency"}),
    "order hash not compared": (_not_compared("order_mismatch"), {"order_hash", "order_hash_random"}),
    "a notice is good for ever": (_no_exp, {"expired_notice", "prev"}),
    "any certificate chain": (
        _any_chain,
        {"by_false_gateway", "issued_by_a_leaf", "self_issued", "settled_false_root", "hello_by_false_root"},
    ),
    "any date of certificates": (_not_verified("certificate_dates"), {"by_expired", "by_early", "settled_expired_key"}),
    "no list of the revoked": (_no_lists, {"by_revoked", "list_rolled_back", "list_of_false_root", "settled_revoked_key"}),
    "any number of a list": (_any_list, {"list_rolled_back"}),
    "any purpose": (_not_verified("purpose"), {"by_gateway_line", "by_gateway_seal"}),
    "any audience": (_not_verified("aud"), {"aud_other_merchant", "aud_gateway", "settled_aud"}),
    "any time of signing": (_not_verified("iat"), {"future"}),
    "any version": (_not_verified("version"), {"version"}),
    "any signature": (_not_verified("signature"), {"altered", "key_swapped", "signature_zero", "settled_other_key"}),
    "any header": (
        _not_verified("header"),
        {
            *("no_x5c", "alg_none_signed", "alg_small", "hs512"),
            *("header_jwk", "header_jku", "header_x5u", "header_crit", "header_zip", "header_b64", "header_twice"),
        },
    ),
    "a lenient reader of JSON": (
        _not_verified("claims"),
        {
            *("amount_twice_first", "amount_number", "amount_float", "amount_padded", "amount_signed", "amount_spaced", "amount_wide"),
            "no_exp",
        },
    ),
    "outcomes not held against what was confirmed": (
        _any_outcome,
        {
            *("settled_prev_notice", "settled_prev_other", "settled_amount", "settled_currency", "settled_payment", "settled_order"),
            *("settled_too_early", "voided_foreign", "closed_foreign", "closed_unknown"),
        },
    ),
    "delivers on the word of a status": (_nothing, {"answer_without_proof"}),
    "authorizations not held against what was asked": (
        _any_authorization,
        {
            *("authorization_unasked", "authorization_for_confirmation", "authorization_with_receipt"),
            *("authorization_amount", "authorization_tid", "authorization_after_decline"),
        },
    ),
    "any peer on the line": (_any_line, {"line_of_another"}),
    "any hello": (_any_hello, {"hello_by_false_root", "hello_by_merchant", "hello_to_another"}),
}
"""Which check is taken out → the cases that find it."""


def test_every_case_has_a_name_of_its_own_and_there_are_enough() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    for group, least in (("notice", 30), ("outcome", 20), ("network", 10)):
        assert sum(case.group == group for case in CASES) >= least
    assert CASES[0].group == CASES[-1].group == "control"


def test_every_mutant_names_cases_that_exist() -> None:
    assert set().union(*(caught for _, caught in MUTANTS.values())) <= {case.name for case in CASES}


async def test_our_own_shop_takes_nothing_wrongly_and_does_everything_honest(folder: Path) -> None:
    outcome = await probe_world.play(folder, CASES)
    assert [(result.name, result.detail) for result in outcome.wrong] == []
    assert [(result.name, result.detail) for result in outcome.results if result.verdict == "not_tried"] == []
    assert {result.name for result in outcome.results if result.verdict == "passed"} == CONTROLS
    assert all(seen.sent for result in outcome.results for seen in result.evidence)


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_shop_without_one_check_is_caught_by_the_cases_for_it(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, caught = MUTANTS[name]
    mutate(monkeypatch)
    chosen = [case for case in CASES if case.name in caught | NEIGHBOURS | {"confirms", "settles", "still_settles"}]
    outcome = await probe_world.play(folder, chosen, believes_status="status" in name, waits=probe_world.PATIENT)
    assert {result.name: result.detail for result in outcome.wrong}.keys() == caught


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
async def test_and_by_no_other_case_of_all(prepared: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, caught = MUTANTS[name]
    mutate(monkeypatch)
    wrong: set[str] = set()
    chosen, waits = {case.name for case in CASES}, probe_world.HASTY
    # On a busy machine a wrong yes comes too late for short waits: what they say otherwise than it should be is asked once more.
    for folder in ("in haste", "with patience"):
        cases = [case for case in CASES if case.name in chosen | {"confirms", "settles", "still_settles"}]
        shutil.copytree(prepared, tmp_path / folder)
        outcome = await probe_world.play(tmp_path / folder, cases, believes_status="status" in name, waits=waits)
        wrong = wrong - chosen | {result.name for result in outcome.wrong}
        chosen, waits = wrong ^ caught, probe_world.PATIENT
        if not chosen:
            break
    assert wrong == caught


async def test_a_shop_that_refuses_everything_takes_nothing_wrongly_and_fails_the_controls(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role.Merchant, "compare", lambda *_, **__: "shop_refused")
    outcome = await probe_world.play(folder, [case for case in CASES if case.name in NEIGHBOURS | {"confirms", "settles", "still_settles"}])
    assert {result.name for result in outcome.wrong} == {"confirms", "settles", "still_settles"}
    assert {result.verdict for result in outcome.wrong} == {"control_failed"}


async def test_a_yes_that_comes_late_is_a_yes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe has given up waiting for this answer and looks back at the end."""
    MUTANTS["amount not compared"][0](monkeypatch)
    receive = Inbox.receive

    async def slow(self: Inbox, unverified: str, **options: Any) -> str | None:
        said = await receive(self, unverified, **options)
        if signed.peek_claims(unverified).get("amount") == "219999":
            await asyncio.sleep(probe_world.HASTY.forged_s * 1.5)
        return said

    monkeypatch.setattr(Inbox, "receive", slow)
    chosen = [case for case in CASES if case.name in {"amount_lower", "altered", "status_as_settled", "still_settles"}]
    outcome = await probe_world.play(folder, chosen)
    assert [(result.name, result.detail) for result in outcome.wrong] == [("amount_lower", "it signed hanbit-confirmation, later")]
