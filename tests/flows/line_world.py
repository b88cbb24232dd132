"""A customer with a wallet at a running payment server, and what the tests of its lines share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hanbit import server
from hanbit.crypto import certificates
from hanbit.evidence import store as evidence
from hanbit.evidence.check import check as check_evidence
from hanbit.folder import KEYS_FOLDER
from hanbit.kernel.clock import SystemClock
from hanbit.ledger.check import check as check_ledger
from hanbit.payments import operations
from hanbit.payments import payment as payments
from hanbit.payments.gateway import Gateway
from hanbit.wallet import enrol as wallet_enrol
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Device, Wallet
from hanbit.wallet.store import Enrolment, Store

LOGIN, PASSWORD, ACCOUNT_PASSWORD = "hong", "correct horse battery", "2580"
CLOCK = SystemClock()


@dataclass
class Customer:
    """Somebody with money and a device key."""

    wallet: Wallet
    enrolled: Enrolment
    account: str

    async def pay(self, location: str) -> str:
        """R4 to R12; the state of the payment."""
        opened = await self.wallet.open(location)
        if self.wallet.client.has_session:
            await self.wallet.screen(opened)
        else:
            await self.wallet.login(opened, LOGIN, PASSWORD)
        body = self.wallet.prepare(opened, Device(self.enrolled.device), account=self.account)
        return (await self.wallet.send(body)).state


@asynccontextmanager
async def add_customer(folder: Path, running: server.Running) -> AsyncIterator[Customer]:
    """Registered, funded, enrolled."""
    gateway, address = running.gateway, f"http://pay.localhost:{running.pay_port}"
    await operations.create_customer(gateway, login=LOGIN, name="홍길동", password=PASSWORD)
    made = await operations.create_account(gateway, login=LOGIN, kind="bank", number="11012345678890", password=ACCOUNT_PASSWORD)
    await operations.fund(gateway, account=made["account"], amount="1000000")
    store = Store(folder / "wallet")
    pin = store.trust(certificates.load_chain_pem(folder / "gateway" / KEYS_FOLDER / "root.pem")[0], CLOCK.now())
    code = (await operations.enrol_code(gateway, login=LOGIN))["code"]
    async with Http() as http:
        enrolled = await wallet_enrol.enrol(address, code, store=store, http=http, clock=CLOCK)
        yield Customer(Wallet.at(address, pin=pin, http=http, clock=CLOCK, poll_s=0.05), enrolled, made["account"])


async def prove(gateway: Gateway) -> None:
    """Every promise about money and evidence, from the store alone."""
    assert check_ledger(gateway.reader.connection).balanced

    def first_link(merchant: str, tid: str) -> str | None:
        found = payments.find(gateway.reader, merchant, tid)
        return None if found is None else found.order_hash

    proof = check_evidence(list(evidence.share(gateway.reader, 0, 1)), gateway.registry, first_link)
    assert proof.verified, proof.broken
