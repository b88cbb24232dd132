"""Letters to customers on a real mail server: one each, in the commit of what they tell; none twice, in clear or in vain."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hanbit.db.change import Change, Put
from hanbit.kernel.errors import BadInput, TooManyTries, WrongState
from hanbit.mail import letters, post, smtp
from hanbit.mail.smtp import Connection, NotNow
from hanbit.parties.brand import Brand
from hanbit.payments import appearance, contact, exceptions, mails
from hanbit.payments.purge import MAIL_KEPT_S
from hanbit.payments.states import State
from hanbit.settings import EMAIL, Settings
from tests.flows.cancelling import Canceller
from tests.mailbox import FROM, Mailbox, mailbox
from tests.waiting import PATIENCE_S
from tests.world import NOW, PRICE, World, cut, open_world

ADDRESS = "hong@example.com"
BRAND = Brand("한빛은행", "Hanbit Bank", "1588-0000")
LETTER = letters.Letter("m", FROM, ADDRESS, b"Subject: x\r\n\r\nx")


@pytest.fixture
def box(tmp_path: Path) -> Any:
    with mailbox(tmp_path / "mail") as found:
        yield found


@pytest.fixture
async def world(tmp_path: Path, box: Mailbox) -> AsyncIterator[World]:
    """A world whose operator writes to its customers, and Hong has an address."""
    async with open_world(tmp_path / "world", **{name: json.dumps(value) for name, value in box.settings().items()}) as found:
        await addressed(found)
        yield found


async def addressed(world: World, address: str | None = ADDRESS, language: str = "ko") -> None:
    (row,) = [one for one in world.rows("customers") if one["id"] == world.hong.id]
    put = Put("customers", row | {"email": address, "language": language}, row["version"])
    await world.gateway.book.commit(Change(puts=(put,)))


async def send(world: World, seconds: int = 0) -> list[dict[str, Any]]:
    world.clock.advance(seconds)
    await post.post_due(world.gateway)
    return world.rows("mails")


async def paid(world: World) -> Any:
    visit = await world.visit()
    payment = await visit.pay()
    assert payment.state == State.CAPTURED
    return visit


async def test_a_payment_and_its_refund_are_told_once_each_over_tls_in_the_customers_language(world: World, box: Mailbox) -> None:
    visit = await paid(world)
    (row,) = world.rows("mails")
    assert (row["state"], row["kind"], row["address"], row["next_at"]) == ("waiting", "paid", ADDRESS, NOW)
    await send(world)
    await addressed(world, language="en")
    assert (await Canceller(world).cancel(visit, 20_000))[0] == "confirmed"
    await send(world)
    rows = await send(world)
    assert {row["state"] for row in rows} == {"sent"}
    assert (box.to, box.encrypted) == ([[ADDRESS]] * 2, [True] * 2)
    korean, english = box.letters
    assert korean["Subject"] == f"{visit.stored.payee} 220,000원 결제"
    assert english["Subject"] == f"{visit.stored.payee} has refunded ₩20,000"
    assert (korean["Content-Language"], english["Content-Language"]) == ("ko", "en")
    text = korean.get_content()
    assert all(word in text for word in ("220,000원", "2027년 1월 15일", f"/my/payments/{visit.stored.id}?lang=ko", "번으로 전화"))
    assert "₩220,000 that you paid, ₩20,000 in all" in english.get_content()
    for letter in box.letters:
        assert str(letter["From"].addresses[0].addr_spec) == FROM
        assert letter["Auto-Submitted"] == "auto-generated"
        assert not any(account.number in letter.get_content() for account in world.hong.accounts.values())
    assert len({letter["Message-ID"] for letter in box.letters}) == 2
    assert [what for what in world.observed if what[0] == "mail"] == [("mail", "sent")] * 2


async def test_a_letter_is_written_under_the_name_that_pages_show(world: World, box: Mailbox) -> None:
    await paid(world)
    await appearance.set_brand(world.gateway, name_ko="새빛은행", telephone="1588-9999", reason="two banks became one")
    await send(world)
    (letter,) = box.letters
    assert letter["From"].addresses[0].display_name == "새빛은행"
    assert "새빛은행" in letter.get_content()
    assert "1588-9999" in letter.get_content()


async def test_who_has_no_address_or_an_operator_without_mail_leaves_no_row(world: World, box: Mailbox, tmp_path: Path) -> None:
    await addressed(world, None)
    await paid(world)
    assert world.rows("mails") == []
    async with open_world(tmp_path / "silent") as silent:
        await addressed(silent)
        await paid(silent)
        assert await send(silent) == []
    assert box.letters == []


async def test_a_payment_that_is_turned_away_tells_nothing(world: World) -> None:
    world.line.links["shop"].plan.append(cut)
    visit = await world.visit()
    assert (await visit.pay()).state == State.AUTHORIZED
    await world.tick(11 * 60)
    assert visit.stored.state == State.VOIDED
    assert world.rows("mails") == []


async def test_two_processes_at_once_and_a_late_record_send_one_letter(world: World, box: Mailbox) -> None:
    await paid(world)
    (row,) = world.gateway.reader.all("SELECT * FROM mails")
    connection = Connection(world.gateway.settings)
    await post._send(world.gateway, connection, row)
    await post._send(world.gateway, connection, row)  # another process that had read the same row
    await connection.close()
    assert len(box.letters) == 1


async def test_a_letter_whose_record_was_lost_goes_again_as_the_same_bytes(world: World, box: Mailbox) -> None:
    await paid(world)
    await send(world)
    (row,) = world.rows("mails")
    lost = row | {"state": "waiting", "next_at": world.clock.now() + post.FIRST_WAIT_S, "ended_at": None}
    await world.gateway.book.commit(Change(puts=(Put("mails", lost, row["version"]),)))  # killed between the server's yes and the record
    await send(world, post.FIRST_WAIT_S - 1)
    assert len(box.letters) == 1, "nobody sends it while the first may still be at it"
    (row,) = await send(world, 1)
    assert row["state"] == "sent"
    assert box.raw[0] == box.raw[1]


async def test_a_server_that_is_away_or_busy_is_asked_ever_more_rarely_and_given_up_in_the_end(world: World, box: Mailbox) -> None:
    await paid(world)
    box.answers = ["451 later", "rcpt 450 busy"] + ["451 later"] * 100
    (row,) = await send(world)
    assert (row["state"], row["tries"], row["next_at"]) == ("waiting", 1, NOW + post.FIRST_WAIT_S)
    (row,) = await send(world, post.FIRST_WAIT_S)
    assert (row["tries"], row["next_at"] - world.clock.now()) == (2, 2 * post.FIRST_WAIT_S)
    while row["state"] == "waiting":
        assert row["next_at"] - world.clock.now() <= post.LONGEST_WAIT_S
        (row,) = await send(world, row["next_at"] - world.clock.now())
    assert (row["state"], row["why"]) == ("given_up", "not_delivered 451")
    assert world.clock.now() - NOW >= post.GIVEN_UP_S
    assert row["tries"] < 60
    (shown,) = exceptions.unsent(world.gateway)
    assert (shown["kind"], shown["login"]) == ("paid", world.hong.login)
    box.answers = []
    await exceptions.send_again(world.gateway, "operator", mail=row["id"], reason="the mail server is back")
    (row,) = await send(world)
    assert (row["state"], len(box.letters)) == ("sent", 1)
    await world.tick(MAIL_KEPT_S + 1)
    assert world.rows("mails") == []


async def test_an_address_that_the_server_refuses_is_given_up_at_once_and_the_next_letter_goes(world: World, box: Mailbox) -> None:
    await paid(world)
    await paid(world)
    box.answers = ["rcpt 550 no such user"]
    rows = await send(world)
    assert sorted(row["state"] for row in rows) == ["given_up", "sent"]
    assert [row["why"] for row in rows if row["why"]] == ["refused 550"]


@pytest.mark.parametrize("wrong", ["no tls", "another authority", "wrong password", "nobody"])
async def test_nothing_is_said_in_clear_or_to_a_stranger(tmp_path: Path, wrong: str) -> None:
    with mailbox(tmp_path / "mail", "off" if wrong == "no tls" else "starttls") as box, mailbox(tmp_path / "other") as other:
        settings = box.settings()
        if wrong == "another authority":
            settings["smtp_ca"] = other.ca
        if wrong == "wrong password":
            settings["smtp_password"] = "guessed"
        if wrong == "nobody":
            settings["smtp_port"] = 1
        async with open_world(tmp_path / "world", **{name: json.dumps(value) for name, value in settings.items()}) as world:
            await addressed(world)
            await paid(world)
            await paid(world)
            rows = await send(world)
            assert {row["state"] for row in rows} == {"waiting"}
            assert sorted(row["tries"] for row in rows) == [0, 1], "one look is enough, the other letter waits too"
            assert all(row["next_at"] > world.clock.now() for row in rows)
        assert box.letters == []


async def test_wishes_at_once_send_no_more_links_than_a_day_has(world: World) -> None:
    wishes = [contact.set_email(world.gateway, login=world.hong.login, email="new@example.com") for _ in range(2 * contact.LINKS_MAX)]
    told = await asyncio.gather(*wishes, return_exceptions=True)
    assert all(isinstance(one, WrongState | TooManyTries) for one in told if not isinstance(one, dict))
    sent = [one for one in told if isinstance(one, dict)]
    assert 1 <= len(sent) <= contact.LINKS_MAX
    assert len(world.rows("mails")) == len(world.rows("email_links")) == len(sent)


@asynccontextmanager
async def odd_server(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Connection]:
    """A connection to a mail server that behaves like this."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield Connection(Settings(smtp_host="localhost", smtp_port=port, mail_from=FROM))


async def test_a_letter_that_nobody_waits_for_any_more_is_not_handed_over() -> None:
    came, go_on, said = asyncio.Event(), asyncio.Event(), asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await go_on.wait()
        writer.write(b"220 at your service\r\n")
        with suppress(ConnectionError):
            said.put_nowait(await reader.read(100))
        writer.close()

    async with odd_server(serve) as connection:
        sending = asyncio.create_task(connection.send(LETTER))
        await came.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        go_on.set()
        async with asyncio.timeout(PATIENCE_S):
            assert await said.get() == b"", "the thread hangs up"


async def test_a_server_that_never_ends_its_first_word_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smtp.STEP_S < smtp.LETTER_S < post.FIRST_WAIT_S, "nobody else sends it while the first is still at it"
    monkeypatch.setattr(smtp, "LETTER_S", 0.3)
    gone = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"220-one moment\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        gone.set()

    async with odd_server(serve) as connection, asyncio.timeout(PATIENCE_S):
        with pytest.raises(NotNow):
            await connection.send(LETTER)
        await gone.wait()


async def test_tls_from_the_first_byte(tmp_path: Path) -> None:
    with mailbox(tmp_path / "mail", "tls") as box:
        async with open_world(tmp_path / "world", **{name: json.dumps(value) for name, value in box.settings("tls").items()}) as world:
            await addressed(world)
            await paid(world)
            await send(world)
        assert len(box.letters) == 1


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@",
        "@b",
        "a b@c.d",
        "a@b c",
        "a@b\r\nBcc: x@y.z",
        "a@b,c@d",
        "a@b>",
        "<a@b>",
        "a@-b",
        ".a@b",
        "a.@b",
        "a@b..c",
        "é@b.c",
        "a@b\n",
    ],
)
def test_what_is_no_single_address_makes_no_letter(address: str) -> None:
    settings = Settings(smtp_host="localhost", mail_from=FROM)
    assert not EMAIL.fullmatch(address)
    row = {"id": "m", "address": address, "language": "en", "kind": "password", "facts": '{"at": 0, "name": "x", "of": ""}', "stored_at": 0}
    with pytest.raises(BadInput):
        letters.write(settings, BRAND, row, token="")


@pytest.mark.parametrize("payee", ["Shop\r\nBcc: eve@evil.example", "Shop\nX: y", "x" * 200])
def test_a_payee_cannot_add_a_header(payee: str) -> None:
    settings = Settings(smtp_host="localhost", mail_from=FROM)
    facts = {"at": 0, "name": "x", "payment": "p" * 22, "payee": payee, "amount": 1, "currency": "KRW", "account": "", "account_kind": ""}
    row = {"id": "m", "address": ADDRESS, "language": "en", "kind": "paid", "facts": json.dumps(facts), "stored_at": 0}
    with pytest.raises(BadInput):
        letters.write(settings, BRAND, row, token="")


@pytest.mark.parametrize(
    "wrong",
    [
        {"smtp_host": "mail.example"},
        {"mail_from": FROM},
        {"smtp_host": "mail.example", "mail_from": FROM, "smtp_tls": "off"},
        {"smtp_host": "mail.example", "mail_from": FROM, "smtp_tls": "no"},
        {"smtp_host": "mail.example", "mail_from": FROM, "smtp_user": "x"},
        {"smtp_host": "mail.example", "mail_from": FROM, "smtp_ca": "ca.pem"},
        {"smtp_host": "mail.example", "mail_from": "a@b\r\nc"},
    ],
)
def test_half_a_mail_setting_stops_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        Settings(**wrong)  # type: ignore[arg-type]  # texts only
    assert "the way" not in repr(Settings(smtp_host="localhost", mail_from=FROM, smtp_user="x", smtp_password="the way"))


def test_every_kind_of_letter_can_be_written_in_both_languages() -> None:
    settings = Settings(smtp_host="localhost", mail_from=FROM)
    facts = {
        "at": NOW, "name": "홍길동", "payment": "p" * 22, "payee": "가람전자", "amount": PRICE, "currency": "KRW", "account": "****7890",
        "account_kind": "bank", "returned": 1, "returned_in_all": 2, "key": "passkey", "label": "phone", "of": "bank", "masked": "****7890",
        "now": "n***@example.com",
    }  # fmt: skip
    for kind in mails.KINDS:
        for language in ("ko", "en"):
            row = {"id": "m", "address": ADDRESS, "language": language, "kind": kind, "facts": json.dumps(facts), "stored_at": NOW}
            written = letters.write(settings, BRAND, row, token="t" * 22)
            assert written == letters.write(settings, BRAND, row, token="t" * 22), "the same row is the same bytes"
            assert max(map(len, written.content.split(b"\r\n"))) <= 998
