"""R5, R7: who is this, and did he approve? Passwords with throttling, device key, passkey, one-time code; no factor is ever skipped."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from hanbit.crypto.envelopes import equal
from hanbit.db.change import Change, Put, Require, Stale
from hanbit.db.reading import Row
from hanbit.evidence.assertion import verify_assertion
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, Declined, ProtocolViolation, Unavailable
from hanbit.parties import accounts, brand, passkeys, throttle
from hanbit.parties.accounts import Account
from hanbit.parties.customers import Customer
from hanbit.parties.enrolment import unwrap
from hanbit.parties.passkeys import Site
from hanbit.parties.throttle import Tries
from hanbit.payments.gateway import Gateway
from hanbit.protocols.redirect import gateway as role
from hanbit.protocols.redirect.messages import Consent
from hanbit.protocols.sealed import CommonCore, Instruction, code_value, consent_challenge
from hanbit.protocols.signed import SignedMessage

SIGNED_METHODS = frozenset({"passkey", "device"})
"""Methods by which the customer signs; the others prove who he is to the gateway alone."""
STALE_TRIES = 5
USED_EVERY_S = 24 * 3600


class Approval(msgspec.Struct, frozen=True):
    """A factor that was right: the account it opens, the customer's signature if he gave one, rows that must move with it."""

    account: Account
    method: str
    consent: SignedMessage[Consent] | None = None
    signature: str | None = None
    """What a passkey signed; a device's consent is a message of its own and kept as such."""
    puts: tuple[Put, ...] = ()
    requires: tuple[Require, ...] = ()
    """Under the book lock the factor is still the one that was looked at: who has just been locked out pays nothing more."""


async def check(gateway: Gateway, customer: Customer, instruction: Instruction[CommonCore]) -> Approval:
    """The right factor for an account of one's own, else Declined("wrong_factor"): the two cannot be told apart from outside."""
    named = _named_account(gateway, instruction)
    account = named if named is not None and named.customer == customer.id else None
    method, value = instruction.auth.method, instruction.auth.value
    if method == "password":
        return await _check_password(gateway, customer, account, value)
    if account is None:
        raise Declined("wrong_factor")
    try:
        if method == "device":
            return _check_device(gateway, customer, account, instruction)
        if method == "passkey":
            return _check_passkey(gateway, customer, account, instruction)
        if method == "code":
            return _check_code(gateway, customer, account, instruction)
    except (ProtocolViolation, BadInput) as error:
        raise Declined("wrong_factor", str(error)) from error
    raise Declined("wrong_factor", "unknown method")


async def guarded(gateway: Gateway, factor: str, check_it: Callable[[], Awaitable[bool]]) -> bool:
    """Count a try before it is checked, clear the count if it was right; TooManyTries while the factor waits.

    A try that found no room to be checked was none: else a flood of anybody's log-ins would make the right people wait.
    """
    for _ in range(STALE_TRIES):
        before = throttle.read(gateway.reader, factor)
        tries = throttle.count(before, gateway.clock.now())
        try:
            await gateway.book.commit(Change(puts=(throttle.put(tries),)))
        except Stale:
            continue  # another try came between: count again from its result
        try:
            right = await check_it()
        except Unavailable:
            with suppress(Stale):
                await gateway.book.commit(Change(puts=(throttle.uncounted(tries, before),)))
            raise
        if not right:
            return False
        await _clear(gateway, tries)
        return True
    raise Unavailable("too many tries at once")


async def _clear(gateway: Gateway, tries: Tries) -> None:
    """The answer was right: the count begins anew. Where other tries have counted themselves since, only this one is taken back.

    Otherwise right answers that overlap without a pause would add up to a wait.
    """
    put = throttle.cleared(tries)
    for _ in range(STALE_TRIES):
        try:
            await gateway.book.commit(Change(puts=(put,)))
        except Stale:
            put = throttle.put(throttle.without_one(throttle.read(gateway.reader, tries.factor)))
            continue
        return


async def guarded_nobody(gateway: Gateway, name: str, password: str) -> None:
    """`guarded` for a name that belongs to nobody: the same waits, the same hash, the same commits.

    Whoever measures must not learn which names exist.
    """

    async def wrong() -> bool:
        await gateway.passwords.verify_nobody(password)
        return False

    await guarded(gateway, throttle.unknown(gateway.keyring.pepper, name), wrong)


def _named_account(gateway: Gateway, instruction: Instruction[CommonCore]) -> Account | None:
    if instruction.number is not None:
        return accounts.by_number(gateway.reader, gateway.keyring.pepper, instruction.number)
    return accounts.by_id(gateway.reader, instruction.core.account)


async def _check_password(gateway: Gateway, customer: Customer, account: Account | None, value: str) -> Approval:
    if account is None:
        await guarded_nobody(gateway, f"account:{customer.id}", value)
        raise Declined("wrong_factor")
    stored = account.password
    if not await guarded(gateway, f"account:{account.id}", lambda: gateway.passwords.verify(stored, value)):
        raise Declined("wrong_factor")
    same = Require("accounts", account.id, "password", stored, Declined("wrong_factor"))
    return Approval(account, "password", requires=(same,))


def _check_device(gateway: Gateway, customer: Customer, account: Account, instruction: Instruction[CommonCore]) -> Approval:
    urn = ids.urn(gateway.settings.operator, "customer", customer.id)
    consent = role.verify_consent(instruction, trust=gateway.registry, gateway=gateway.urn, customer_urn=urn, at=gateway.clock.now())
    row = gateway.reader.one("SELECT * FROM devices WHERE id = ? AND kind = 'device'", consent.kid)
    if row is None or row["customer"] != customer.id or row["state"] != "active":
        raise ProtocolViolation("unknown_key")
    return Approval(account, "device", consent=consent, puts=_used(gateway, row))


def _check_passkey(gateway: Gateway, customer: Customer, account: Account, instruction: Instruction[CommonCore]) -> Approval:
    try:
        unverified = msgspec.json.decode(instruction.auth.value)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolViolation("passkey") from error
    challenge = consent_challenge(instruction.core_hash)
    owner, counted = passkeys.check(gateway.reader, unverified, site=site(gateway), challenge=challenge, at=gateway.clock.now())
    if owner != customer.id:
        raise ProtocolViolation("passkey")
    # What is kept must convince whoever holds the evidence file later: the library reads spellings that he does not.
    public = json.loads(str(counted.row["public"]))["key"]
    verify_assertion(instruction.auth.value, passkey=str(counted.row["id"]), key=public, challenge=challenge)
    return Approval(account, "passkey", signature=instruction.auth.value, puts=(counted,))


def _check_code(gateway: Gateway, customer: Customer, account: Account, instruction: Instruction[CommonCore]) -> Approval:
    sql = "SELECT * FROM devices WHERE customer = ? AND kind = 'code' AND state = 'active' LIMIT 20"
    for row in gateway.reader.all(sql, customer.id):
        name = row["id"].removeprefix("code:")
        secret = unwrap(gateway.keyring.pepper, name, json.loads(row["public"])["wrapped"])
        expected = code_value(secret, instruction.code_binding, instruction.core_hash)
        if equal(expected.encode("ascii"), instruction.auth.value.encode("utf-8")):
            there = Require("devices", row["id"], "state", "active", Declined("wrong_factor"))
            return Approval(account, "code", puts=_used(gateway, row), requires=(there,))
    raise ProtocolViolation("code")


def _used(gateway: Gateway, row: Row) -> tuple[Put, ...]:
    """The row of a key that is used, when it is time to write that down: once a day is often enough to tell one that is never used."""
    at = gateway.clock.now()
    if row["used_at"] is not None and at < row["used_at"] + USED_EVERY_S:
        return ()
    used = {name: row[name] for name in row.keys() if name != "version"} | {"used_at": at}  # noqa: SIM118 - a database row
    return (Put("devices", used, row["version"], changed=("used_at",)),)


def as_it_is_now(gateway: Gateway, approval: Approval) -> Approval:
    """The approval with the row of its key read again: of payments at once the first one writes down that the key is used, for all.

    Declined("wrong_factor") if the key has been removed since. A passkey's count stays as it was checked.
    """
    if approval.method == "passkey" or not approval.puts:
        return approval
    (put,) = approval.puts
    row = gateway.reader.one("SELECT * FROM devices WHERE id = ? AND state = 'active'", put.row["id"])
    if row is None:
        raise Declined("wrong_factor", "unknown_key")
    return msgspec.structs.replace(approval, puts=_used(gateway, row))


def site(gateway: Gateway) -> Site:
    """The site that passkeys are made for, under the name that its pages bear."""
    return Site.of(gateway.settings.public_url, brand.of(gateway.reader, gateway.settings).name_en)
