"""Who sees what: everything that shop and payment server store, log and receive of purchases, searched and guessed at.

The merchant cannot learn or guess PI, the gateway cannot learn or guess the order's lines, and either can show a third party that both
halves belong together. The guesser knows every word; all that he lacks are the salts. With them he succeeds, so the search would find it.
"""

import json
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import structlog

from hanbit.evidence.bundle import add_lines, read, write
from hanbit.kernel import ids
from hanbit.kernel.money import Money
from hanbit.merchant import own_evidence
from hanbit.merchant.order import Line
from hanbit.merchant.purchase import BY_SID, PurchaseResult
from hanbit.payments import operations, purchase_result
from hanbit.payments.states import State
from hanbit.protocols import signed
from hanbit.protocols.dual_signature import customer as role
from hanbit.protocols.dual_signature.customer import OpenSession
from hanbit.protocols.dual_signature.digests import joint_digest, oi_digest, pi_digest
from hanbit.protocols.dual_signature.messages import AuthorizationRequest, Dual, Purchase
from hanbit.protocols.dual_signature.temporary import TemporaryTrust
from hanbit.protocols.redirect import customer as redirect
from hanbit.protocols.signed import verify
from tests import engine
from tests.attacks.canaries import Canary, card_number
from tests.attacks.captured import Captured
from tests.flows.authenticator import Authenticator
from tests.flows.evidence_files import codes, exported, failure, judge
from tests.flows.passkeys import auth_passkey, enrol_passkey
from tests.purchases import session_authority
from tests.world import OPERATOR, RETURN_URL, Account, Link, Person, Visit, World, enrol_device, open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOGIN = f"canary-login-{secrets.token_hex(6)}"
LOGIN_PASSWORD = f"canary-password-{secrets.token_hex(12)}"
ACCOUNT_PASSWORD = f"canary-account-{secrets.token_hex(12)}"
WRONG_PASSWORD = f"canary-wrong-{secrets.token_hex(12)}"
BANK = f"11{secrets.randbelow(10**12):012}"
CARD = card_number(f"400000{secrets.randbelow(10**9):09}")
NAME = f"canary-name-{secrets.token_hex(8)}"
ITEMS = (f"canary-item-{secrets.token_hex(8)}", f"canary-extra-{secrets.token_hex(8)}")
PRICES = (123_457, 4_321)


@dataclass
class Bought:
    """What only the customer's program has of one purchase."""

    method: str
    visit: Visit
    session: OpenSession
    grant: str
    oi: str
    core: str
    auth: str
    purchase: Purchase
    result: PurchaseResult
    number: str = ""
    number_salt: bytes = b""

    @property
    def salts(self) -> list[str]:
        """Core's and auth's."""
        return [json.loads(text)["salt"] for text in (self.core, self.auth)]

    @property
    def order_salt(self) -> str:
        """OI's."""
        return str(json.loads(self.oi)["salt"])


@dataclass
class Watched:
    """A world of which every byte that reaches shop or gateway is kept, and what was bought in it."""

    world: World
    person: Person
    passkey: Authenticator
    shop: Captured = field(default_factory=lambda: Captured("shop"))
    gateway: Captured = field(default_factory=lambda: Captured("gateway"))
    bought: list[Bought] = field(default_factory=list)
    lines_salts: list[str] = field(default_factory=list)

    @property
    def link(self) -> Link:
        return self.world.shop

    async def order(self) -> Visit:
        """An order of unmistakable things, opened by its customer: the description that the payment server is to show says nothing."""
        location = await self.link.shop.create_order(
            lines=[Line(item, 1, price) for item, price in zip(ITEMS, PRICES, strict=True)],
            total=Money(sum(PRICES), "KRW"),
            text="your order",
            return_url=RETURN_URL,
        )
        visit = self.world.open(location.location, self.person)
        self.lines_salts.append((await self.world.shop_order(visit)).salt)
        return visit

    async def buy(self, visit: Visit, method: str, *, account: str = "bank", password: str = ACCOUNT_PASSWORD, number: str = "") -> Bought:
        """D1 to D8 by this customer's program, the shop's own program and the gateway; what travels is kept by who receives it."""
        world, tid, at = self.world, visit.redirect.tid, self.world.clock.now()
        checkout = await self.link.shop.checkout(tid)
        lines = role.verify_lines(visit.opening, checkout.lines, checkout.lines_salt)
        self.gateway.add("POST /window/open", json.dumps({**_clear(visit), "order": visit.redirect.order}))
        self.gateway.add("POST /pay/login", visit.opening.keys.compact + redirect.seal_login(visit.sealing, login_id=LOGIN, password="x"))
        asking = role.make_session_request(visit.opening, at=at)
        self.shop.add("POST sessions", asking.request.compact)
        answer = await self.link.shop.open_session(tid, asking.request.compact)
        session = role.verify_session(answer, asking, pin=world.pin, at=at)
        self.gateway.add("POST /pay/grant", json.dumps({**_clear(visit), "key": visit.sealing.key}))
        grant = await visit.grant()
        name, salt = redirect.typed_number(number) if number else (self.person.accounts[account].id, b"")
        oi = role.make_order_information(session, lines)
        core = role.make_core(session, account=name, grant=grant, oi=oi)
        auth = self._auth(visit, core, method, password)
        made = role.make_purchase(session, oi=oi, core=core, auth=auth, at=at, number=number or None, number_salt=salt or None)
        self.shop.add("POST purchases", msgspec.json.encode(made))
        result = await self.link.shop.purchase(tid, made)
        self.shop.add("what it answers", msgspec.json.encode(result))
        asked = role.make_result_request(session, at=at)
        self.gateway.add("POST /purchase/result", asked.compact)
        purchase_result.result(world.gateway, asked.compact)
        bought = Bought(method, visit, session, grant, oi, core, auth, made, result, number, salt)
        self.bought.append(bought)
        return bought

    def _auth(self, visit: Visit, core: str, method: str, password: str) -> str:
        if method == "passkey":
            return auth_passkey(core, self.passkey)
        if method == "device":
            return redirect.auth_device(visit.opening, core, self.person.device, self.world.clock.now())
        return role.auth_code(core, self.person.code_secret) if method == "code" else redirect.auth_password(password)

    def stored(self) -> None:
        """Every file of both sides as it lies now, and the rows of a book that is no file."""
        self.shop.add_files(*self.world.folder.parent.glob("shop.db*"))
        self.gateway.add_files(self.world.folder)
        for where, content in engine.beside(self.world.folder):
            self.gateway.add(where, content)

    def payment_secrets(self) -> list[Canary]:
        """What no merchant may learn of any of it."""
        words = {
            "login": LOGIN, "login password": LOGIN_PASSWORD, "account password": ACCOUNT_PASSWORD, "wrong password": WRONG_PASSWORD,
            "name": NAME, "customer": self.person.id, "account number": BANK, "card number": CARD, "its first six": CARD[:10],
        }  # fmt: skip
        words |= {f"account {kind}": account.id for kind, account in self.person.accounts.items()}
        words |= {f"mask {row['masked']}": row["masked"] for row in self.world.rows("accounts") if row["customer"] == self.person.id}
        for number, one in enumerate(self.bought):
            words |= {f"core {number}": one.core, f"auth {number}": one.auth, f"value {number}": json.loads(one.auth)["value"]}
            words |= {f"grant {number}": one.grant, f"core's salt {number}": one.salts[0], f"auth's salt {number}": one.salts[1]}
        return [Canary(name, word.encode()) for name, word in words.items()]

    def order_secrets(self) -> list[Canary]:
        """What the payment server may not learn of any of it."""
        words = {f"item {item}": item for item in ITEMS}
        words |= {f"price {price}": f'"price_minor":{price}' for price in PRICES}
        words |= {f"salt {number}": salt for number, salt in enumerate(self.lines_salts)}
        words |= {f"OI's salt {number}": one.order_salt for number, one in enumerate(self.bought)}
        return [Canary(name, word.encode()) for name, word in words.items()]


def _clear(visit: Visit) -> dict[str, str]:
    clear = visit.redirect
    return {"mid": clear.merchant_id, "tid": clear.tid, "amount": clear.money.text, "keys": visit.opening.keys.compact}


@contextmanager
def logged(shop: Captured, gateway: Captured) -> Iterator[None]:
    """Every log line of this process, whatever its level: the payment server speaks through structlog, a shop through the library's own."""

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = f"{record.getMessage()} {vars(record)}"
            shop.add(f"log {record.name}", said)
            if not record.name.startswith("hanbit.merchant"):
                gateway.add(f"log {record.name}", said)

    def kept(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        gateway.add("log", repr(event))
        raise structlog.DropEvent

    root, handler, before = logging.getLogger(), Kept(logging.DEBUG), structlog.get_config()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, kept],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    try:
        yield
    finally:
        structlog.configure(**before)
        root.setLevel(level)
        root.removeHandler(handler)


def listen(watched: Watched) -> None:
    """Keep every frame of the line, by who receives it."""
    link = watched.link
    to_shop, to_gateway = link.to_shop, link.to_gateway

    async def shop_hears(message: str) -> str | None:
        watched.shop.add("frame", message)
        answer = await to_shop(message)
        watched.gateway.add("answer", answer or "")
        return answer

    async def gateway_hears(frame: str) -> str | None:
        watched.gateway.add("frame", frame)
        answer = await to_gateway(frame)
        watched.shop.add("answer", answer or "")
        return answer

    link.to_shop, link.to_gateway = shop_hears, gateway_hears  # type: ignore[method-assign]  # a wire that is tapped


async def newcomer(world: World) -> Person:
    """A customer whose every word is unmistakable."""
    gateway = world.gateway
    made = await operations.create_customer(gateway, login=LOGIN, name=NAME, password=LOGIN_PASSWORD)
    accounts = {}
    for kind, number, limit in (("bank", BANK, "0"), ("card", CARD, "9000000")):
        row = await operations.create_account(gateway, login=LOGIN, kind=kind, number=number, password=ACCOUNT_PASSWORD, credit_limit=limit)
        accounts[kind] = Account(row["account"], kind, number, ACCOUNT_PASSWORD)
    await operations.fund(gateway, account=accounts["bank"].id, amount="9000000")
    device, secret = await enrol_device(gateway, LOGIN)
    return Person(made["customer"], LOGIN, LOGIN_PASSWORD, accounts, device, secret)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """Purchases by every factor, a declined one, a typed card number; seen by tests that only look, or buy beside them."""
    async with open_world(tmp_path_factory.mktemp("watched")) as world:
        await session_authority(world)
        person = await newcomer(world)
        found = Watched(world, person, await enrol_passkey(world, person))
        listen(found)
        await _buy_by_every_factor(found)
        yield found
        await world.prove()


async def _buy_by_every_factor(found: Watched) -> None:
    with logged(found.shop, found.gateway):
        for method in ("password", "device", "code", "passkey"):
            bought = await found.buy(await found.order(), method)
            assert (bought.result.result, bought.visit.stored.state) == ("approved", State.CAPTURED), method
        typed = await found.buy(await found.order(), "password", number=CARD)
        assert typed.result.result == "approved"
        declined = await found.buy(await found.order(), "password", password=WRONG_PASSWORD)
        assert (declined.result.result, declined.result.reason) == ("declined", "declined")
        assert (await found.buy(declined.visit, "device")).result.result == "approved"
        await found.world.tick(3)
        found.stored()


def dictionary(watched: Watched) -> list[bytes]:
    """The right answers among wrong ones."""
    right = [LOGIN, LOGIN_PASSWORD, ACCOUNT_PASSWORD, BANK, CARD, CARD[:6] + CARD[-4:], CARD[-4:], watched.person.id]
    right += [account.id for account in watched.person.accounts.values()]
    right += [f"account:{watched.person.id}", "password", "passkey", "device", "1234", "0000"]
    return [word.encode() for word in right]


async def test_the_shop_holds_nothing_of_the_payment_information(watched: Watched) -> None:
    assert len(watched.shop.readings) > 100_000, "it has been listened to"
    assert watched.shop.leaks(watched.payment_secrets()) == []
    assert watched.shop.commits_to(dictionary(watched)) == set()
    for word in (b'"core"', b'"auth_hash"', b'"masked"', b"wrong_factor", b"factor_waits", b"no_funds", b'"customer"', b"hanbit-consent"):
        assert word not in watched.shop.readings, word


async def test_the_gateway_holds_nothing_of_the_order_information(watched: Watched) -> None:
    assert len(watched.gateway.readings) > 100_000
    assert watched.gateway.leaks(watched.order_secrets()) == []
    words = [item.encode() for item in ITEMS] + [str(price).encode() for price in PRICES]
    words += [(await watched.world.shop_order(one.visit)).lines_json.encode() for one in watched.bought[:1]]
    assert watched.gateway.commits_to(words) == set()


async def test_passwords_are_with_nobody(watched: Watched) -> None:
    """Neither side keeps what proved the customer where that is no signature."""
    words = (LOGIN_PASSWORD, ACCOUNT_PASSWORD, WRONG_PASSWORD, BANK, CARD)
    secret = [Canary(word[:12], word.encode()) for word in words]
    assert watched.gateway.leaks(secret) == []
    assert watched.gateway.commits_to([word.encode() for word in words]) == set()


async def test_the_shop_cannot_confirm_a_guess_of_the_payment_information(watched: Watched) -> None:
    """Whoever guesses every word of PI, with any salt that he has ever seen, learns nothing; with its two salts he is sure."""
    for one in watched.bought:
        assert watched.shop.confirms_payment_information(one.core, one.auth, one.number) == set(), one.method
        assert "pimd" in watched.shop.confirms_payment_information(one.core, one.auth, salts=one.salts), one.method
        for alone in one.salts:
            assert watched.shop.confirms_payment_information(one.core, one.auth, salts=[alone]) == set()


async def test_the_gateway_cannot_confirm_a_guess_of_the_lines(watched: Watched) -> None:
    for one in watched.bought:
        order = await watched.world.shop_order(one.visit)
        assert watched.gateway.confirms_order_information(one.oi, order.lines_json) == set(), one.method
        assert watched.gateway.confirms_order_information(one.oi, order.lines_json, salts=[one.order_salt]) == {"oimd"}
        assert watched.gateway.confirms_order_information(one.oi, order.lines_json, salts=[order.salt]) == {"lines"}


async def test_the_gateway_cannot_confirm_a_guess_of_a_typed_number_or_an_erased_password_later(watched: Watched) -> None:
    """What is left in its book after the check: a commitment to the number and the hash of the authenticator, both salted."""
    typed = next(one for one in watched.bought if one.number)
    assert "number" not in watched.gateway.confirms_payment_information(typed.core, typed.auth, typed.number)
    salt = ids.encode_base64url(typed.number_salt)
    assert "number" in watched.gateway.confirms_payment_information(typed.core, typed.auth, typed.number, salts=[salt])
    for one in watched.bought:
        if one.method == "password":
            assert "auth" not in watched.gateway.confirms_payment_information(one.core, one.auth)
            assert "auth" in watched.gateway.confirms_payment_information(one.core, one.auth, salts=one.salts)


async def test_the_search_would_find_what_is_there(watched: Watched) -> None:
    """The same secrets are found at whoever has them: PI's at the gateway, the lines at the shop."""
    at_gateway = "\n".join(watched.gateway.leaks(watched.payment_secrets()))
    for name in ("customer", "account bank", "core 0"):
        assert f"{name} in " in at_gateway, name
    at_shop = "\n".join(watched.shop.leaks(watched.order_secrets()))
    for name in (*(f"item {item}" for item in ITEMS), "salt 0", "OI's salt 0"):
        assert f"{name} in " in at_shop, name
    spoiled = Captured("shop", [*watched.shop.places, ("planted", ids.digest(ACCOUNT_PASSWORD.encode()).encode())])
    assert spoiled.commits_to(dictionary(watched)) == {ACCOUNT_PASSWORD.encode()}


async def test_nothing_that_the_shop_gets_differs_by_factor_or_account(watched: Watched) -> None:
    """Lengths and shapes included: whoever counts characters learns no more than whoever reads."""
    shapes = set()
    for one in watched.bought:
        dual, said = signed.peek_claims(one.purchase.dual), json.loads(one.oi)
        words = one.purchase.dual.partition(".")[
            2
        ]  # its header bears a certificate of the moment, whose DER signature is as long as chance has it
        sizes = (len(one.purchase.envelope), len(words), len(one.oi), sorted(dual), sorted(said))
        shapes.add(repr(sizes))
    assert len(shapes) == 1
    approved = {repr(sorted(msgspec.to_builtins(one.result))) for one in watched.bought if one.result.receipt}
    assert len(approved) == 1


async def test_a_redirect_shows_the_shop_no_more_and_the_gateway_no_lines(watched: Watched) -> None:
    """The other checkout, the same parties: R7 never passes the shop, and a signed order commits to its lines by the same salted hash."""
    shop, gateway, cores = Captured("shop"), Captured("gateway"), []
    watched.shop, watched.gateway, bought_before = shop, gateway, (watched.shop, watched.gateway)
    for method in ("password", "device", "code"):
        visit = await watched.order()
        core = visit.core()
        auth = visit.auth(core, method)
        sealed = visit.seal(core, auth)
        gateway.add("POST /pay/submit", json.dumps({**_clear(visit), "key": visit.sealing.key, "pay": sealed}))
        with logged(shop, gateway):
            assert (await visit.submit(sealed)).state == State.CAPTURED
        cores.append((visit, core, auth))
    watched.stored()
    watched.shop, watched.gateway = bought_before
    assert len(shop.places) > len(cores), "it has been listened to"
    secret = [Canary(f"redirect's {what}", text.encode()) for _, core, auth in cores for what, text in (("core", core), ("auth", auth))]
    assert shop.leaks([*watched.payment_secrets(), *secret]) == []
    assert gateway.leaks(watched.order_secrets()) == []
    for visit, core, auth in cores:
        order = await watched.world.shop_order(visit)
        salts, nothing = [json.loads(text)["salt"] for text in (core, auth)], json.dumps({"salt": ""})
        assert shop.confirms_payment_information(core, auth, salts=salts) == set(), "with the salts too: there is no commitment at all"
        assert gateway.confirms_order_information(nothing, order.lines_json) == set()
        assert gateway.confirms_order_information(nothing, order.lines_json, salts=[order.salt]) == {"lines"}


# --- and yet either can show that both halves belong together ----------------------------------------------------------------------------


async def test_the_shop_shows_that_its_half_was_signed_beside_one_of_the_gateways(watched: Watched) -> None:
    """OI, pimd and the dual signature, and the operator's root: nothing else, and no program of the gateway's."""
    world, link = watched.world, watched.link
    for one in watched.bought:
        (exchange,) = await link.shop.book.exchanges(BY_SID, one.session.session.claims.sid)
        request = (await link.shop.book.message(exchange.request)).compact
        claims = msgspec.convert(signed.peek_claims(request), AuthorizationRequest)
        assert exchange.envelope is None
        dual = _dual(world, claims.dual, claims.sid)
        assert oi_digest(exchange.oi) == dual.oimd
        assert joint_digest(claims.pimd, oi_digest(exchange.oi)) == dual.pomd
        assert oi_digest(exchange.oi.replace(ITEMS[0], ITEMS[1])) != dual.oimd


async def test_the_gateway_shows_that_its_half_was_signed_beside_one_of_the_shops(watched: Watched) -> None:
    """The attempt's core, the hash of what proved the customer, oimd and the dual signature: no password any more."""
    world = watched.world
    attempts = {row["core"]: row for row in world.rows("attempts")}
    for one in watched.bought:
        row = attempts[one.core]
        (exchange,) = [found for found in world.rows("exchanges") if found["sid"] == one.session.session.claims.sid]
        dual = _dual(world, one.purchase.dual, exchange["sid"])
        pimd = pi_digest(ids.digest(row["core"].encode()), row["auth_hash"])
        assert (pimd, exchange["oimd"]) == (dual.pimd, dual.oimd)
        assert joint_digest(pimd, exchange["oimd"]) == dual.pomd
        assert json.loads(row["core"])["oimd"] == dual.oimd
        assert (row["auth_value"] is not None) == (one.method == "passkey"), "a signature is kept; what is none is not"


def _dual(world: World, compact: str, sid: str) -> Dual:
    trust = TemporaryTrust(world.parties.root, world.shop.signer.urn, sid)
    return verify(compact, Dual, trust=trust, audience=world.gateway.urn, at=world.clock.now()).claims


async def test_the_evidence_files_carry_each_half_apart_and_both_together(watched: Watched) -> None:
    world, link = watched.world, watched.link
    one = watched.bought[0]
    theirs = await exported(world, one.visit)
    collected = await own_evidence.collect(await world.shop_order(one.visit), link.shop.book, link.shop.witness)
    ours = own_evidence.bundle(collected, operator=OPERATOR, merchant="shop", keys=(), chains=[link.signer.chain])
    assert Captured("its readers", [("file", write(ours))]).leaks(watched.payment_secrets()) == []
    assert Captured("its readers", [("file", write(theirs))]).leaks(watched.order_secrets()) == []
    for file, own, other in (
        (theirs, "half_of_gateway", "no_order_information"),
        (read(write(ours)), "half_of_merchant", "no_payment_information"),
    ):
        report = judge(world, file)
        assert report.verified, failure(report)
        assert {"halves_joined", own, other} <= set(codes(report))
    both = judge(world, add_lines(theirs, write(ours)))
    assert both.verified, failure(both)
    assert {"halves_joined", "half_of_gateway", "half_of_merchant", "customer_not_signed"} <= set(codes(both))
