"""What the operator may write down of customers, accounts and merchants, and what is kept of their numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.kernel.errors import BadInput, Conflict, NotFound
from hanbit.parties import accounts, customers, merchants
from hanbit.payments import operations
from tests.world import NOW, World

PEPPER = bytes(range(32))
ACCOUNT: dict[str, Any] = {
    "customer": "c", "kind": "bank", "number": "11012345678890", "currency": "KRW", "password_hash": "x", "credit_limit": 0,
    "pepper": PEPPER, "at": NOW,
}  # fmt: skip
MERCHANT: dict[str, Any] = {
    "merchant_id": "shop", "name": "The shop", "telephone": "02-555-0123", "orders": "signed", "currency": "KRW",
    "return_url": "https://shop.example/orders", "at": NOW,
}  # fmt: skip
CUSTOMER: dict[str, Any] = {"login": "hong", "name": "홍길동", "password_hash": "x", "language": "ko", "at": NOW}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "piggy"},
        {"number": "123"},
        {"number": "1" * 15},
        {"number": "1101234567889\u0660"},
        {"kind": "card", "number": "4012888888881882"},
        {"kind": "card", "number": "401288888888188"},
        {"currency": "XXX"},
        {"credit_limit": 5},
    ],
    ids=str,
)
def test_an_account_outside_its_grammar_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        accounts.new_account(**(ACCOUNT | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"login": ""},
        {"login": "a b"},
        {"login": "a" * 65},
        {"login": "a\n"},
        {"name": " "},
        {"name": "x" * 61},
        {"name": "a\u202e\n"},
        {"language": "fr"},
    ],
    ids=str,
)
def test_a_customer_outside_its_grammar_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        customers.new_customer(**(CUSTOMER | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"merchant_id": "Shop"},
        {"merchant_id": ""},
        {"name": ""},
        {"telephone": "call me"},
        {"orders": "any"},
        {"currency": "XXX"},
        {"return_url": "http://shop.example/"},
        {"return_url": "https://user@shop.example/"},
        {"return_url": "https://shop.example/#x"},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "https://"},
        {"return_url": "https://shop.example:x/"},
        {"return_url": "https://shop.example/" + "a" * 500},
    ],
    ids=str,
)
def test_a_merchant_outside_its_grammar_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        merchants.new_merchant(**(MERCHANT | changes))


@given(st.text(max_size=80))
def test_whatever_follows_the_registered_origin_leads_nowhere_else(rest: str) -> None:
    assert merchants.origin_of("https://shop.example/" + rest) in (None, "https://shop.example")
    assert merchants.origin_of(rest) is None or "://" in rest


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://shop.localhost/other?x=1", True),
        ("https://shop.localhost", True),
        ("https://shop.localhost:444/", False),
        ("https://shop.localhost.evil.example/", False),
        ("https://evil.example/shop.localhost", False),
        ("https://shop.localhost@evil.example/", False),
        ("https://shop.localhost\\@evil.example/", False),
        ("http://shop.localhost/", False),
        ("//shop.localhost/", False),
    ],
)
async def test_customers_return_to_the_registered_origin_only(world: World, url: str, allowed: bool) -> None:
    shop = merchants.by_id(world.gateway.reader, "shop")
    assert shop is not None
    assert shop.allows_return(url) is allowed


@given(st.from_regex(r"[0-9]{10,14}", fullmatch=True))
def test_a_number_is_kept_as_a_mask_and_a_keyed_mac(number: str) -> None:
    put, ledger = accounts.new_account(**(ACCOUNT | {"number": number}))
    assert number not in str(put.row) + str(ledger.row)
    assert put.row["masked"] == "*" * (len(number) - 4) + number[-4:]
    assert put.row["number_mac"] != accounts.new_account(**(ACCOUNT | {"number": number, "pepper": bytes(32)}))[0].row["number_mac"]


def test_of_a_card_at_most_the_first_six_and_the_last_four_are_kept() -> None:
    assert accounts.mask("card", "4012888888881881") == "4012-88**-****-1881"


async def test_names_and_numbers_are_taken_once(world: World) -> None:
    gateway = world.gateway
    with pytest.raises(Conflict):
        await operations.create_customer(gateway, login="hong", name="x", password="long enough")
    with pytest.raises(Conflict):
        await operations.create_account(gateway, login="kim", kind="bank", number=world.hong.accounts["bank"].number, password="1234")
    with pytest.raises(Conflict):
        await operations.create_merchant(gateway, id="shop", name="x", telephone="02-555-0123", return_url="https://shop.example/")


async def test_funding_under_one_name_happens_once_and_other_content_is_refused(world: World) -> None:
    account, gateway = world.hong.accounts["bank"].id, world.gateway
    for _ in range(2):
        await operations.fund(gateway, account=account, amount="5000", id="salary")
    assert world.available(account) == 1_005_000
    for other in ({"amount": "6000"}, {"account": world.kim.accounts["bank"].id}):
        with pytest.raises(Conflict):
            await operations.fund(gateway, **({"account": account, "amount": "5000", "id": "salary"} | other))
    for wrong in ("0", "-1", "1.5", "x"):
        with pytest.raises(BadInput):
            await operations.fund(gateway, account=account, amount=wrong)
    with pytest.raises(NotFound):
        await operations.fund(gateway, account="nothing", amount="1")


async def test_unknown_parties_and_states_are_refused(world: World) -> None:
    gateway = world.gateway
    for what, name in (("customer", "nobody"), ("account", "nothing"), ("merchant", "nowhere")):
        with pytest.raises(NotFound):
            await operations.set_state(gateway, what=what, id=name, state="suspended")
    for what, state in (("king", "suspended"), ("customer", "dead")):
        with pytest.raises(BadInput):
            await operations.set_state(gateway, what=what, id="hong", state=state)
    with pytest.raises(NotFound):
        await operations.revoke(gateway, kid="A" * 43)
    with pytest.raises(NotFound):
        await operations.enrol_code(gateway, merchant="nowhere")
    with pytest.raises(BadInput):
        await operations.list_parties(gateway, what="secrets")


async def test_every_act_of_the_operator_is_an_audit_row(world: World) -> None:
    before = len(world.rows("audit"))
    await operations.set_state(world.gateway, what="customer", id="hong", state="suspended", reason="asked for")
    await operations.revoke(world.gateway, kid=world.hong.device.kid, reason="lost")
    await operations.revoke(world.gateway, kid=world.hong.device.kid)
    await operations.fund(world.gateway, account=world.hong.accounts["bank"].id, amount="1")
    rows = world.rows("audit")[before:]
    assert [row["reason"] for row in rows if row["actor"] == "operator"][:2] == ["asked for", "lost"]
    assert len(rows) == 3
    listed = await operations.list_parties(world.gateway, what="customers")
    assert {row["login"]: row["state"] for row in listed["customers"]} == {"hong": "suspended", "kim": "active"}
    assert "password" not in str(listed)
