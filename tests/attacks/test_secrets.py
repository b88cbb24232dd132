"""Canary secrets: after payments by every factor they are found nowhere but in the key files where they must be."""

import asyncio
import base64
import json
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import hanbit.demo.world as demo
from hanbit import control
from hanbit.demo.world import Ports, World, demo_world
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import HanbitError
from hanbit.loopback import LoopbackResolver
from hanbit.wallet.buy import buy, shown_lines
from hanbit.wallet.client import Answer, Http, Origin
from hanbit.wallet.pay import Device, OneTimeCode, Password, Wallet
from hanbit.wallet.relay import Relay
from tests import engine
from tests.attacks.canaries import Canary, card_number, children, command_lines, files, keys_in, leaks
from tests.attacks.captured import Captured

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOGIN_PASSWORD = f"canary-login-{secrets.token_hex(12)}"
WRONG_PASSWORD = f"canary-wrong-{secrets.token_hex(12)}"
ACCOUNT_PASSWORD = f"canary-account-{secrets.token_hex(12)}"
CARD = card_number(f"400000{secrets.randbelow(10**9):09}")
BANK = f"11{secrets.randbelow(10**12):012}"
NAME = f"canary name {secrets.token_hex(8)}"
PHONE = "phone"


class Tapped(Http):
    """The customers' programs' way to everybody, with every body kept by who received it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_to: dict[str, list[bytes]] = {}

    async def exchange(self, origin: Origin, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Kept, then sent."""
        self.sent_to.setdefault(str(origin), []).append(body or target.encode())
        return await super().exchange(origin, method, target, headers, body)


@dataclass
class Haunted:
    """A world in which secrets were used, and what they were."""

    world: World
    directory: Path
    canaries: list[Canary]
    seen_by_others: list[tuple[str, Path | None, bytes]] = field(default_factory=list)
    sent_to: dict[str, list[bytes]] = field(default_factory=dict)
    """Every body that customers' programs sent, by the origin that received it."""
    of_lines: list[Canary] = field(default_factory=list)
    """What only shop and customer know of the orders that were bought without a redirect."""

    def places(self) -> Iterator[tuple[str, Path | None, bytes]]:
        yield from files(self.directory)
        yield from self.rows()
        yield from command_lines()
        yield from self.seen_by_others

    def rows(self) -> Iterator[tuple[str, Path | None, bytes]]:
        """What is in the book, where that is no file."""
        yield from ((where, None, content) for where, content in engine.beside(self.world.data))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def haunted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Haunted]:
    """Payment server and shops as processes; logins right and wrong, payments by password, typed card number, device and code."""
    directory = tmp_path_factory.mktemp("haunted")
    codes: list[str] = []
    original = control.run

    async def remember(folder: Path, command: str, **arguments: str) -> dict[str, Any]:
        result = await original(folder, command, **arguments)
        codes.extend([result["code"]] if "code" in result else [])
        return result

    with pytest.MonkeyPatch.context() as patch:
        (directory / "tmp").mkdir()
        patch.setenv("TMPDIR", str(directory / "tmp"))
        patch.setattr(demo, "CUSTOMERS", (("canary", NAME, "ko", LOGIN_PASSWORD),))
        accounts = (("canary", "bank", BANK, ACCOUNT_PASSWORD, "0", "900000"), ("canary", "card", CARD, ACCOUNT_PASSWORD, "900000", "0"))
        patch.setattr(demo, "ACCOUNTS", accounts)
        patch.setattr(control, "run", remember)
        async with demo_world(directory, Ports.free(), SystemClock(), lambda _: None, engine.database()) as world, Tapped() as http:
            canaries = [Canary(f"one-time code {number}", code.encode()) for number, code in enumerate(codes)]
            seen = await _use_them(world, http, canaries)
            of_lines = await _buy_at_the_shop(world, http, canaries)
            canaries += [
                Canary("login password", LOGIN_PASSWORD.encode()),
                Canary("wrong password", WRONG_PASSWORD.encode()),
                Canary("account password", ACCOUNT_PASSWORD.encode()),
                Canary("card number", CARD.encode()),
                Canary("account number", BANK.encode()),
                *keys_in(directory),
            ]
            yield Haunted(world, directory, canaries, seen, http.sent_to, of_lines)


async def _use_them(world: World, http: Http, canaries: list[Canary]) -> list[tuple[str, Path | None, bytes]]:
    who = world.customers["canary"]
    secret = who.enrolment.secret
    home = [path for path in world.data.parent.rglob("code-*.secret") if path.is_file()]
    canaries.append(Canary("secret of one-time codes", secret, home[0]))
    seen: list[tuple[str, Path | None, bytes]] = []
    factors: list[tuple[Any, dict[str, str]]] = [
        (Password(ACCOUNT_PASSWORD), {"number": CARD}),
        (Password(ACCOUNT_PASSWORD), {"account": who.accounts["bank"]}),
        (Password(WRONG_PASSWORD), {"account": who.accounts["bank"]}),
        (Password(WRONG_PASSWORD), {"number": card_number("400000999999999")}),
        (OneTimeCode(secret), {"account": who.accounts["bank"]}),
        (Device(who.enrolment.device), {"account": who.accounts["bank"]}),
    ]
    for number, (factor, account) in enumerate(factors):
        wallet = Wallet.at(world.settings.public_url, pin=who.wallet.pin, http=http, clock=SystemClock())
        _, location = await world.shops["shop"].order("song")
        opened = await wallet.open(location)
        if number == 0:
            with pytest.raises(HanbitError):
                await wallet.login(opened, who.login, WRONG_PASSWORD)
            opened = await wallet.open(location)
        await wallet.login(opened, who.login, LOGIN_PASSWORD)
        outcome = await wallet.pay(opened, factor, **account)
        assert outcome.state == ("open" if factor == Password(WRONG_PASSWORD) else "captured"), (number, outcome)
        canaries.append(Canary(f"session token {number}", wallet.client._cookie.encode()))
        canaries.append(Canary(f"SK {number}", opened.sealing.session.secret))
        seen += await _look_as_a_stranger(world, outcome.payment)
    return seen


async def _buy_at_the_shop(world: World, http: Http, canaries: list[Canary]) -> list[Canary]:
    """The dual-signature checkout, through the shop's own relay; returns the salts of the lines."""
    who, shop = world.customers["canary"], world.shops["shop"]
    bank, salts = who.accounts["bank"], []
    factors: list[tuple[Any, dict[str, str], str]] = [
        (Password(ACCOUNT_PASSWORD), {"number": CARD}, "captured"),
        (Password(ACCOUNT_PASSWORD), {"account": bank}, "captured"),
        (Password(WRONG_PASSWORD), {"account": bank}, "open"),
        (OneTimeCode(who.enrolment.secret), {"account": bank}, "captured"),
        (Device(who.enrolment.device), {"account": bank}, "captured"),
    ]
    for number, (factor, account, state) in enumerate(factors):
        tid, _ = await shop.order("song")
        relay, checkout = await Relay.find(http, f"{shop.url}/hanbit/{tid}")
        wallet = Wallet.at(world.settings.public_url, pin=who.wallet.pin, http=http, clock=SystemClock())
        opened = await wallet.open(checkout.redirect)
        await wallet.login(opened, who.login, LOGIN_PASSWORD)
        outcome = await buy(wallet, opened, relay, shown_lines(opened, checkout), factor, **account)
        assert outcome.state == state, (number, outcome)
        canaries.append(Canary(f"session token of purchase {number}", wallet.client._cookie.encode()))
        salts.append(Canary(f"salt of the lines {number}", checkout.lines_salt.encode()))
    return salts


async def _look_as_a_stranger(world: World, payment: str) -> list[tuple[str, Path | None, bytes]]:
    found: list[tuple[str, Path | None, bytes]] = []
    connector = aiohttp.TCPConnector(resolver=LoopbackResolver())
    async with aiohttp.ClientSession(connector=connector) as stranger:
        for path in ("", "/state", "/receipt"):
            for accept in ("text/html", "application/json"):
                address = f"{world.settings.public_url}/payments/{payment}{path}"
                async with stranger.get(address, headers={"Accept": accept}, allow_redirects=False) as answer:
                    content = await answer.read()
                    found.append((f"answer to a stranger at {path or 'the page'}", None, content + str(answer.headers).encode()))
    return found


async def test_no_secret_is_found_outside_its_file_while_everything_runs(haunted: Haunted) -> None:
    assert len(haunted.canaries) > 25
    assert leaks(haunted.canaries, haunted.places()) == []


async def test_the_shop_is_told_nothing_of_who_pays_and_from_where(haunted: Haunted) -> None:
    """Its folder, its log, and every body that came to its relay: no id of the customer's or his accounts either."""
    who, shop = haunted.world.customers["canary"], haunted.world.shops["shop"]
    ids_of_his = [Canary(f"account {kind}", account.encode()) for kind, account in who.accounts.items()]
    ids_of_his += [Canary("customer", who.enrolment.device.urn.rpartition(":")[2].encode())]
    seen = Captured("shop")
    seen.add_files(shop.folder, haunted.directory / "logs" / "shop.log")
    for body in haunted.sent_to[shop.url]:
        seen.add("a body", body)
    assert len(haunted.sent_to[shop.url]) >= 10, "two for each purchase"
    assert seen.leaks([*(canary for canary in haunted.canaries if canary.home is None), *ids_of_his, Canary("name", NAME.encode())]) == []
    assert len({len(json.loads(body)["envelope"]) for body in haunted.sent_to[shop.url] if b'"envelope"' in body}) == 1


async def test_the_payment_server_is_told_nothing_of_the_lines(haunted: Haunted) -> None:
    seen, base = Captured("gateway"), haunted.world.settings.public_url
    seen.add_files(haunted.world.data, haunted.directory / "logs" / "gateway.log")
    for where, _, content in haunted.rows():
        seen.add(where, content)
    for body in haunted.sent_to[base]:
        seen.add("a body", body)
    assert len(haunted.sent_to[base]) >= 10
    assert seen.leaks([*haunted.of_lines, Canary("lines", b'"price_minor"')]) == []
    theirs = Captured("shop")
    theirs.add_files(haunted.world.shops["shop"].folder)
    assert len(theirs.leaks(haunted.of_lines)) >= len(haunted.of_lines), "where they are they are found"


async def test_the_search_would_find_them(haunted: Haunted, tmp_path: Path) -> None:
    """A search that finds nothing proves nothing unless it finds what is there."""
    for canary in haunted.canaries:
        for number, spoiled in enumerate((canary.secret, canary.secret.hex().encode(), b"x" + canary.secret)):
            (tmp_path / str(number)).write_bytes(b"\x00padding " + spoiled + b" padding")
        for shift in range(3):
            (tmp_path / f"base64-{shift}").write_bytes(base64.b64encode(b"z" * shift + canary.secret + b"yy"))
            (tmp_path / f"base64url-{shift}").write_bytes(base64.urlsafe_b64encode(b"z" * shift + canary.secret + b"yy"))
        assert len(leaks([canary], files(tmp_path))) == 9, canary.name
    homes = [canary for canary in haunted.canaries if canary.home is not None]
    assert {canary.name for canary in homes} >= {"pepper", "server.key", "secret of one-time codes", "private key gateway-sign.key"}
    assert len(leaks([Canary(canary.name, canary.secret) for canary in homes], haunted.places())) >= len(homes)


async def test_a_number_is_kept_as_first_six_and_last_four_at_most(haunted: Haunted) -> None:
    """No seven digits from the middle, in whatever form."""
    parts = [Canary(f"digits {at} to {at + 8} of the card", CARD[at : at + 8].encode()) for at in range(1, 8)]
    parts += [Canary(f"digits {at} to {at + 8} of the account", BANK[at : at + 8].encode()) for at in range(6)]
    assert leaks(parts, haunted.places()) == []


async def test_a_persons_name_stays_with_the_operator(haunted: Haunted) -> None:
    """Not over the line, not in a log, not with the merchant, not to strangers: in the book and nowhere else."""
    found = leaks([Canary("name", NAME.encode(), haunted.world.data / "book.sqlite")], haunted.places())
    assert [place for place in found if not place.startswith(("name in gateway/book.sqlite", "name in rows of "))] == []
    assert found or not engine.is_postgresql(), "the search would find it in a database"


async def test_files_with_secrets_are_their_owners_alone(haunted: Haunted) -> None:
    secret_files = [canary.home for canary in haunted.canaries if canary.home is not None]
    open_to_others = [path for path in secret_files if path.stat().st_mode & 0o077 or path.parent.stat().st_mode & 0o077]
    assert open_to_others == []
    book = haunted.world.data / "book.sqlite"
    assert [path for path in book.parent.glob("book.sqlite*") if path.stat().st_mode & 0o077] == []


def limits_of_the_server(data: Path) -> str:
    served = [pid for pid in children() if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"serve\0--data\0" + bytes(data) + b"\0")]
    assert len(served) == 1
    return Path(f"/proc/{served[0]}/limits").read_text("utf-8")


async def test_the_payment_server_leaves_no_core(haunted: Haunted) -> None:
    limits = limits_of_the_server(haunted.world.data)
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file size")] == [["0", "0"]]


async def test_core_dumps_stay_off_where_a_program_collects_them() -> None:
    """A pipe in core_pattern ignores the limit; a process that is not dumpable it does not get."""
    code = "import ctypes; from hanbit.process import no_core_dumps; no_core_dumps(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert (await process.communicate())[0] == b"0\n"


async def test_no_secret_is_found_after_a_kill(haunted: Haunted) -> None:
    """What is on the disk when the power goes: the log of the database included."""
    assert (haunted.world.data / "book.sqlite-wal").exists() != engine.is_postgresql()
    copies = [
        (f"{name} as it lies", None, content) for name, path, content in files(haunted.world.data) if path and "keys" not in path.parts
    ]
    assert leaks(haunted.canaries, iter([*copies, *haunted.rows()])) == []
