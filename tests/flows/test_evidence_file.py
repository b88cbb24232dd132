"""An evidence file is judged by a stranger with the root alone: what is true passes, what was changed fails with the number of its step."""

import json
import random
from typing import Any

import pytest

from hanbit.crypto.certificates import make_root
from hanbit.crypto.keys import new_key
from hanbit.evidence.bundle import FILE_MAX, add_lines, write
from hanbit.evidence.verify import verify
from hanbit.kernel import ids
from hanbit.merchant import own_evidence
from hanbit.merchant.handlers import No
from tests.flows.cancelling import Canceller
from tests.flows.evidence_files import codes, export_and_verify, exported, failure, judge, resealed
from tests.flows.passkeys import auth_passkey, enrol_passkey
from tests.world import NOW, PRICE, World

FLIPS = 120


async def test_payment_signed_by_a_device_leaves_no_doubt(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    report = await export_and_verify(world, visit)
    assert report.verified
    proved = ["gateway_settled", "gateway_receipt", "customer_signed_device", "in_the_log"]
    words = ["merchant_ordered", "merchant_confirmed", "customer_by_operators_word", "merchant_by_operators_word"]
    assert codes(report)[: len(proved) + len(words)] == proved + words
    for one in report.conclusions:
        assert one.text("ko") != one.text("en")


async def test_passkey_is_verified_without_the_operators_help(world: World) -> None:
    passkey = await enrol_passkey(world, world.hong)
    visit = await world.visit()
    core = visit.core()
    await visit.submit(visit.seal(core, auth_passkey(core, passkey)))
    report = await export_and_verify(world, visit)
    assert report.verified
    assert "customer_signed_passkey" in codes(report)


@pytest.mark.parametrize("method", ["password", "code"])
async def test_unsigned_payment_says_that_the_customer_has_not_signed(world: World, method: str) -> None:
    visit = await world.visit()
    await visit.pay(method=method)
    report = await export_and_verify(world, visit)
    assert report.verified
    assert "customer_not_signed" in codes(report)
    assert "customer_signed_device" not in codes(report)
    (said,) = [one.text("en") for one in report.conclusions if one.code == "customer_not_signed"]
    assert "not signed" in said
    assert method in said


async def test_every_end_of_a_payment_can_be_shown(world: World) -> None:
    refused = await world.visit()
    world.confirm["shop"] = No("다 팔렸습니다", "sold out")
    await refused.pay()
    assert {"merchant_refused", "gateway_voided"} <= set(codes(await export_and_verify(world, refused)))
    closed = await world.visit()
    await closed.cancel()
    assert "gateway_closed" in codes(await export_and_verify(world, closed))
    plain = await world.visit(merchant="plain")
    await plain.pay()
    report = await export_and_verify(world, plain)
    assert report.verified
    assert {"gateway_settled", "no_signed_order"} <= set(codes(report))


async def test_refunds_are_shown_with_their_requests_and_entries(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    shop = Canceller(world)
    assert (await shop.cancel(visit, 20_000))[0] == "confirmed"
    assert (await shop.cancel(visit, PRICE, remaining=PRICE))[0] == "remaining_differs"
    report = await export_and_verify(world, visit)
    assert report.verified
    assert {"merchant_asked_back", "gateway_cancelled", "gateway_refused_cancellation"} <= set(codes(report))


async def test_no_changed_byte_passes(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    good = write(await exported(world, visit))
    chance = random.Random(good)
    for place in chance.sample(range(len(good)), FLIPS):
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        report = verify(bytes(bad), root=world.parties.root)
        assert (report.verified, report.failed) == (False, 1), place
    for bad_copy in (good[:-1], good + b"\n", good[1:], good[:500] + good[501:], b" " + good, good.replace(b"\n ", b"\n  ", 1)):
        assert verify(bad_copy, root=world.parties.root).failed == 1


async def test_no_changed_member_passes_with_a_digest_made_anew(world: World) -> None:
    """Whoever alters a file can make its digest good again; what he has altered is signed, or named by a leaf that is."""
    passkey = await enrol_passkey(world, world.hong)
    visit = await world.visit()
    core = visit.core()
    await visit.submit(visit.seal(core, auth_passkey(core, passkey)))
    assert (await Canceller(world).cancel(visit, 20_000))[0] == "confirmed"
    good = await exported(world, visit)
    content = json.loads(write(good))
    passed = set()
    for path in _leaves_of(content):
        if path[0] != "digest" and verify(resealed(good, lambda bad, path=path: _spoil(bad, path)), root=world.parties.root).verified:  # type: ignore[misc]  # a lambda's default
            passed.add((path[0], path[-1]))
    assert passed <= {("ledger", "at"), ("ledger", "id"), ("approval", "registered_at")}, "words of the operator's own that prove nothing"


async def test_nothing_can_be_left_out_turned_round_or_put_in_unseen(world: World) -> None:
    visit, other = await world.visit(), await world.visit()
    await visit.pay()
    good = await exported(world, visit)
    await other.pay()
    foreign = json.loads(write(await exported(world, other)))
    root = world.parties.root
    for index in range(len(good.messages)):
        assert not verify(resealed(good, lambda bad, index=index: bad["messages"].pop(index)), root=root).verified  # type: ignore[misc]  # a lambda's default
    assert not verify(resealed(good, lambda bad: bad["messages"].reverse()), root=root).verified
    assert not verify(resealed(good, lambda bad: bad["messages"].append(bad["messages"][0])), root=root).verified
    assert not verify(resealed(good, lambda bad: bad["messages"].append(foreign["messages"][0])), root=root).verified
    assert not verify(resealed(good, lambda bad: bad.update(messages=foreign["messages"])), root=root).verified
    assert not verify(resealed(good, lambda bad: bad.update(leaves=foreign["leaves"])), root=root).verified
    assert not verify(resealed(good, lambda bad: bad.update(checkpoint=foreign["checkpoint"])), root=root).verified
    assert not verify(resealed(good, lambda bad: bad.update(approval=foreign["approval"])), root=root).verified
    assert not verify(resealed(good, lambda bad: bad.update(ledger=foreign["ledger"])), root=root).verified


async def test_another_root_says_no(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    data = write(await exported(world, visit))
    for operator in ("bank", "other"):
        report = verify(data, root=make_root(operator, new_key(), NOW))
        assert report.failed in (2, 3)


@pytest.mark.parametrize(
    "unverified",
    [
        b"",
        b"{}",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{" + b'"a":{' * 100_000,
        b'{"format":"hanbit-evidence","version":1e400}',
        b'{"messages":' + b"[" * 200_000,
        b"a.b.c",
        b"x" * (FILE_MAX + 1),
        b"{" + b" " * FILE_MAX,
        b'{"tid":"\\ud800"}',
        '{"tid":"한"}'.encode(),
    ],
    ids=range(14),
)
async def test_garbage_is_refused_in_words(world: World, unverified: bytes) -> None:
    report = verify(unverified, root=world.parties.root)
    assert report.failed == 1
    assert report.steps[0].detail.isprintable()
    assert len(report.steps[0].detail) < 500


async def test_values_of_other_types_are_refused_in_words(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    good = await exported(world, visit)
    content = json.loads(write(good))
    for path in _leaves_of(content)[::7]:
        wrongs: tuple[Any, ...] = (None, -1, 1 << 70, 1.5, [], {}, "", "x" * 50_000, "\x1b[2J", True)
        for wrong in wrongs:
            report = verify(resealed(good, lambda bad, path=path, wrong=wrong: _put(bad, path, wrong)), root=world.parties.root)  # type: ignore[misc]  # a lambda's default
            if path[0] != "digest":
                assert not report.verified or (path[0], path[-1]) in {("ledger", "id"), ("ledger", "at")}, (path, wrong)
            assert all(step.detail.isprintable() for step in report.steps)


async def test_checkpoint_held_elsewhere_is_compared(world: World) -> None:
    first = await world.visit()
    await first.pay()
    older = (await exported(world, first)).checkpoint
    assert older is not None
    visit = await world.visit()
    await visit.pay()
    await world.tick(60)
    linked = await exported(world, visit, held=older)
    report = judge(world, linked, held=older)
    assert report.verified
    assert "same_log" in codes(report)
    unlinked = await exported(world, visit)
    assert "--checkpoint" in failure(judge(world, unlinked, held=older))
    assert judge(world, unlinked, held=unlinked.checkpoint).verified
    assert not verify(resealed(linked, lambda bad: bad["continues"]["path"].reverse()), root=world.parties.root, held=older).verified


async def test_receipt_by_itself_says_what_it_proves(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    receipt = next(kept.compact for kept in (await exported(world, visit)).messages if kept.typ == "hanbit-receipt")
    report = verify(receipt.encode() + b"\n", root=world.parties.root)
    assert report.verified
    assert codes(report) == ["gateway_receipt", "revocation_unknown", "later_unknown"]
    held = (await exported(world, visit)).checkpoint
    assert "stands in no log" in failure(verify(receipt.encode(), root=world.parties.root, held=held))
    header, payload, signature = receipt.split(".")
    text = ids.decode_base64url(payload).replace(b'"220000"', b'"020000"')
    assert verify(f"{header}.{ids.encode_base64url(text)}.{signature}".encode(), root=world.parties.root).failed == 2


async def test_what_a_forger_writes_never_reaches_the_terminal_as_it_is(world: World) -> None:
    header = ids.encode_base64url(json.dumps({"alg": "ES256", "typ": "\x1b[2Jhanbit-order", "kid": "A" * 43}).encode())
    forged = f"{header}.{ids.encode_base64url(b'{}')}.{'A' * 86}"
    visit = await world.visit()
    await visit.pay()
    good = await exported(world, visit)
    in_a_file = resealed(good, lambda bad: bad["messages"][0].update(compact=forged, typ="\x1b[2J"))
    for data in (forged.encode(), in_a_file):
        report = verify(data, root=world.parties.root)
        assert not report.verified
        assert all((step.what + step.detail).isprintable() for step in report.steps)


async def test_shop_gives_its_own_half_and_the_lines(world: World) -> None:
    visit = await world.visit()
    await visit.pay()
    await Canceller(world).cancel(visit, 20_000)
    collected = await own_evidence.collect(await world.shop_order(visit), world.shop.shop.book, world.shop.shop.witness)
    assert collected["lines"] is not None
    theirs = await exported(world, visit)
    ours = own_evidence.bundle(collected, operator="bank", merchant="shop", keys=(), chains=[world.parties.merchants["shop"].chain])
    report = judge(world, ours)
    assert report.verified
    assert {"merchant_ordered", "merchant_confirmed", "gateway_settled", "only_one_side"} <= set(codes(report))
    assert "what was ordered" in [step.what for step in report.steps]
    both = add_lines(theirs, write(ours))
    assert judge(world, both).verified
    altered = verify(
        resealed(both, lambda bad: bad["lines"].update(json=bad["lines"]["json"].replace("IM-1100", "IM-1101"))), root=world.parties.root
    )
    assert failure(altered).startswith("what was ordered")


def _leaves_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in _leaves_of(item, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves_of(item, (*path, index))]
    return [path]


def _put(content: Any, path: tuple[Any, ...], value: Any) -> None:
    for name in path[:-1]:
        content = content[name]
    content[path[-1]] = value


def _spoil(content: Any, path: tuple[Any, ...]) -> None:
    """Another value of the same kind."""
    found: Any = content
    for name in path:
        found = found[name]
    if isinstance(found, str):
        place = len(found) // 2
        other = "A" if found[place : place + 1] != "A" else "B"
        found = found[:place] + other + found[place + 1 :]
    elif isinstance(found, int):
        found += 1
    _put(content, path, found)
