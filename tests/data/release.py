"""Unpacks what an earlier release left behind: real folders, real books, as that release's code wrote them."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanbit.crypto import certificates, keys
from hanbit.crypto.certificates import Authority
from hanbit.merchant import files
from hanbit.protocols.signed import Signer
from hanbit.wallet.store import Store
from tests.world import OPERATOR, Account, Enrolled, Person

HERE = Path(__file__).parent
SHOPS = ("shop", "other", "plain")


@dataclass(frozen=True)
class Release:
    """One unpacked release."""

    folder: Path
    """Holds `gateway`, each shop's folder and `wallet`."""
    at: int
    """The moment at which it stopped."""
    redirects: dict[str, str]
    """The addresses of the orders under way: open, placed, confirmed (by the shop alone), unheard (by the shop)."""
    payments: dict[str, int]
    """How many payments are in which state."""
    parties: Enrolled

    @property
    def gateway(self) -> Path:
        """The operator's data folder."""
        return self.folder / "gateway"

    def order_book(self, shop: str) -> Path:
        """A shop's order book."""
        return self.folder / shop / files.ORDER_BOOK


def unpack(number: int, target: Path) -> Release:
    """The release under `target`, with the modes that git does not keep."""
    source = HERE / f"release-{number}"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sql"))
    load(source / "gateway" / "book.sql", target / "gateway" / "book.sqlite")
    for shop in SHOPS:
        load(source / shop / "orders.sql", target / shop / files.ORDER_BOOK)
    for path in (target, *target.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    facts: dict[str, Any] = json.loads((target / "facts.json").read_text("utf-8"))
    return Release(target, facts["at"], facts["redirects"], facts["payments"], _parties(target, facts["people"]))


def load(script: Path, database: Path) -> None:
    """A database from its text."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script.read_text("utf-8"))


def _parties(folder: Path, people: dict[str, Any]) -> Enrolled:
    registrations = {shop: files.read_registration(folder / shop) for shop in SHOPS}
    enrolment = Store(folder / "wallet").enrolment(OPERATOR)
    assert enrolment is not None
    found = {
        login: Person(
            facts["id"],
            login,
            facts["password"],
            {kind: Account(account["id"], kind, account["number"], account["password"]) for kind, account in facts["accounts"].items()},
            enrolment.device,
            enrolment.secret,
        )
        for login, facts in people.items()
    }
    own = folder / "gateway" / "keys"
    return Enrolled(
        folder / "gateway",
        certificates.load_chain_pem(own / "root.pem")[0],
        found,
        {shop: _signer(folder / shop, registration.merchant, "merchant-sign") for shop, registration in registrations.items()},
        {shop: _signer(folder / shop, registration.merchant, "line") for shop, registration in registrations.items()},
        _authority(own, "gateway"),
        _authority(own, "merchant"),
    )


def _signer(folder: Path, urn: str, purpose: str) -> Signer:
    return Signer.load(files.chain_path(folder, purpose), files.key_path(folder, purpose), urn=urn, purpose=purpose)


def _authority(folder: Path, name: str) -> Authority:
    chain = certificates.load_chain_pem(folder / f"{name}-authority.pem")
    return Authority.below_root(keys.load_key(folder / f"{name}-authority.key"), chain)
