"""Makes what a release leaves behind: a small data folder, its shops and a customer, with a payment in every state; see README.md here.

Run it with the code of the release that is about to become the previous one, from that release's own tree:

    PYTHONPATH=src:. python tests/data/make_release.py tests/data/release-N
"""

import asyncio
import json
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec

from hanbit.crypto import certificates, keys
from hanbit.kernel.money import Money
from hanbit.merchant import files
from hanbit.merchant.handlers import No
from hanbit.protocols.redirect.customer import Pin
from hanbit.wallet.store import Enrolment, Store
from tests import world as worlds
from tests.world import OPERATOR, Visit, World, delay_request, lose_answer, lose_request, open_world


async def make(target: Path) -> None:
    """Everything of one release under `target`, which must not exist."""
    with tempfile.TemporaryDirectory() as temporary:
        async with open_world(Path(temporary)) as world:
            redirects = await _live(world)
            _write_parties(world, target)
            facts = {"at": world.clock.now(), "redirects": redirects, "people": _people(world), "payments": _states(world)}
        (target / "facts.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", "utf-8")
        shutil.copytree(world.folder / "keys", target / "gateway" / "keys")
        shutil.copy(world.folder / "hanbit.toml", target / "gateway")
        _dump(world.folder / "book.sqlite", target / "gateway" / "book.sql")
        for name in worlds.MERCHANTS:
            _dump(Path(temporary) / f"{name}.db", target / name / "orders.sql")


async def _live(world: World) -> dict[str, str]:
    """A day in the life of these parties; returns the addresses of the orders that are still to be paid or decided."""
    # Voided: the shop had confirmed, its answer was lost, the hold ended.
    voided = await world.visit(amount=1_000)
    world.shop.plan.extend([lose_answer] * 20)
    await voided.pay()
    await world.tick(601)
    world.shop.plan.clear()
    # Closed by the customer.
    closed = await world.visit(amount=2_000)
    await closed.login()
    await closed.cancel()
    # Captured: by password, by one-time code, for the other shops, and by device key, whose outcome was not acknowledged.
    await (await world.visit(world.kim, amount=5_000)).pay(method="password")
    await (await world.visit(amount=6_000)).pay("card", method="code")
    await (await world.visit(amount=7_000, merchant="other")).pay()
    await (await world.visit(amount=8_000, merchant="plain")).pay()
    untold = await world.visit(amount=9_000)
    world.shop.tell_plan.append(lose_request)
    await untold.pay()
    # Refused by the shop, which has not heard yet that the hold was released; declined by the gateway; withdrawn by the shop.
    refused = await world.visit(amount=10_000)
    world.confirm["shop"] = No("품절되었습니다", "sold out")
    world.shop.tell_plan.append(lose_request)
    await refused.pay()
    world.confirm.clear()
    declined = await world.visit(amount=900_000)
    await declined.pay("emoney")
    withdrawn = await world.visit(amount=11_000)
    await world.shop.shop.withdraw(withdrawn.redirect.tid)
    # A wrong password counts, a code is never used, a party is suspended.
    await _wrong_password(await world.visit(amount=12_000))
    await world.suspend("account", world.hong.accounts["emoney"].id)
    # Authorized: the answer is on its way, or the notice itself.
    confirmed = await world.visit(amount=13_000)
    world.shop.plan.append(lose_answer)
    await confirmed.pay()
    unheard = await world.visit(world.kim, amount=14_000)
    world.shop.plan.append(delay_request)
    await unheard.pay()
    # Open: opened by a login; and an order that nobody has looked at.
    opened = await world.visit(amount=15_000)
    await opened.login()
    placed = await world.order(16_000)
    return {"open": _address(opened), "placed": placed, "confirmed": _address(confirmed), "unheard": _address(unheard)}


async def _wrong_password(visit: Visit) -> None:
    try:
        await visit.login(password="not the password")
    except Exception as error:  # noqa: BLE001 - whatever it is called in this release
        print(f"as intended: {error!r}")  # noqa: T201 - a script


def _address(visit: Visit) -> str:
    redirect = visit.redirect
    money: Money = redirect.money
    return (
        f"http://pay.localhost:8400/pay?MID={redirect.merchant_id}&TID={redirect.tid}&AMOUNT={money.text}"
        f"&CUR={money.currency}&ORDER={redirect.order}"
    )


def _write_parties(world: World, target: Path) -> None:
    """The shops' folders as enrolment writes them, and the customer's wallet."""
    (target / "gateway").mkdir(parents=True)
    for name, signer in world.parties.merchants.items():
        folder = target / name
        registration = files.Registration(
            operator=OPERATOR,
            merchant=signer.urn,
            gateway=world.gateway.urn,
            line=files.LineAddress("line.localhost", 8401),
            pay_url="http://pay.localhost:8400/pay",
            orders="plain" if name == "plain" else "signed",
        )
        (folder / "keys").mkdir(parents=True)
        for purpose, own in (("merchant-sign", signer), ("line", world.parties.line_keys[name])):
            keys.save_key(own.key, files.key_path(folder, purpose))
            files.write_private(files.chain_path(folder, purpose), certificates.dump_chain_pem(own.chain).encode())
        files.write_private(folder / files.ROOT, certificates.dump_chain_pem([world.parties.root]).encode())
        files.write_private(folder / files.REGISTRATION, msgspec.json.encode(registration))
    store = Store(target / "wallet")
    store.trust(world.parties.root, worlds.NOW)
    for person in world.parties.people.values():
        if person.login == "hong":
            enrolment = Enrolment("http://pay.localhost:8400", person.urn, person.device, worlds.NOW + 90 * 86_400, person.code_secret)
            store.enrol(Pin(world.parties.root, OPERATOR).operator, enrolment, person.device.key)


def _people(world: World) -> dict[str, object]:
    return {
        person.login: {
            "id": person.id,
            "password": person.password,
            "accounts": {
                account.kind: {"id": account.id, "number": account.number, "password": account.password}
                for account in person.accounts.values()
            },
        }
        for person in world.parties.people.values()
    }


def _states(world: World) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in world.rows("payments"):
        found[row["state"]] = found.get(row["state"], 0) + 1
    return found


def _dump(database: Path, target: Path) -> None:
    """A database as text: what git keeps well and what no SQLite library has to be trusted to read."""
    target.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        script = "\n".join(connection.iterdump())
    target.write_text(f"{script}\nPRAGMA user_version = {version};\n", "utf-8")


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
