"""One person with two accounts: whoever made a link, or had it made by an account in his hands, is nobody's second person."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from hanbit.db.change import Change
from hanbit.kernel import ids
from hanbit.kernel.errors import BadInput, NotAllowed, WrongState
from hanbit.parties import invitations, limits, people, terms, time_codes
from hanbit.parties.people import Person
from hanbit.payments import forgotten, handed_over, hands, operations, proposals, staff, staff_sign_in
from hanbit.payments.gateway import Gateway
from hanbit.payments.staff_sign_in import Shown
from tests.world import World, open_world

PASSWORD = "a staff member's password"
Act = Callable[[World, Person], Awaitable[None]]
WHY = "cash over the counter"


@pytest_asyncio.fixture
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("hands")) as opened:
        yield opened
        await opened.prove()


async def set_up(gateway: Gateway, link: str) -> Person:
    """Whoever has the link uses it."""
    token = link.rpartition("/")[2]
    found = invitations.find(gateway.reader, token, gateway.clock.now())
    secret = staff_sign_in.code_secret(gateway, found.token_hash)
    code = time_codes.code_of(secret, gateway.clock.now() // time_codes.STEP_S)
    await staff_sign_in.set_up(gateway, found, password=PASSWORD, shown=Shown(code=code), factor_name="app")
    return again(gateway, found.person)


def again(gateway: Gateway, person: Person) -> Person:
    found = people.by_id(gateway.reader, person.id)
    assert found is not None
    return found


async def invited(gateway: Gateway, by: str, role: str = "admin") -> Person:
    """Somebody who came in by a link that this one made."""
    login = f"p-{ids.new_token().lower().strip('_-').replace('_', '-')}"
    made = await staff.invite(gateway, by=by, face="operator", merchant=None, login=login, name=login, role=role)
    return await set_up(gateway, made.link)


async def proposed(world: World, by: Person) -> proposals.Proposal:
    made = await proposals.propose_fund(world.gateway, by.actor, account=world.hong.accounts["bank"].id, amount="700", reason=WHY)
    found = proposals.find(world.gateway.reader, made)
    assert found is not None
    return found


async def approve(world: World, by: Person, proposal: proposals.Proposal) -> None:
    await proposals.approve(world.gateway, by.actor, proposal, reason=WHY)


async def refused(world: World, by: Person, proposal: proposals.Proposal) -> None:
    before = world.dump(leave_out=())
    assert not proposals.may_approve(world.gateway.reader, by.actor, proposal)
    with pytest.raises(NotAllowed):
        await approve(world, by, proposal)
    assert world.dump(leave_out=()) == before


async def test_two_admins_of_the_data_folder_approve_from_the_first_day(world: World) -> None:
    one, two = [await invited(world.gateway, staff.COMMAND) for _ in range(2)]
    had = world.available(world.hong.accounts["bank"].id)
    await approve(world, two, await proposed(world, one))
    await approve(world, one, await proposed(world, two))
    assert world.available(world.hong.accounts["bank"].id) == had + 1400


async def test_whoever_is_invited_is_no_second_person_until_somebody_else_confirms_him(world: World) -> None:
    gateway = world.gateway
    admin = await invited(gateway, staff.COMMAND)
    self_made = await invited(gateway, admin.actor)
    mine, theirs = await proposed(world, admin), await proposed(world, self_made)
    await refused(world, self_made, mine)
    await refused(world, admin, theirs)
    for by in (admin, self_made):
        with pytest.raises(NotAllowed):
            await hands.confirm(gateway, again(gateway, self_made), by=by.actor, reason=WHY)
    other = await invited(gateway, staff.COMMAND)
    await hands.confirm(gateway, again(gateway, self_made), by=other.actor, reason=WHY)
    later = await proposed(world, admin)
    await approve(world, self_made, later)
    await refused(world, admin, theirs)  # it was proposed while the account may have been his own
    await approve(world, other, theirs)


async def test_chains_and_two_accounts_of_one_maker_are_one_hand(world: World) -> None:
    gateway = world.gateway
    admin, other = [await invited(gateway, staff.COMMAND) for _ in range(2)]
    second, twin = [await invited(gateway, admin.actor) for _ in range(2)]
    third = await invited(gateway, second.actor, "support")
    for proposer in (second, twin, third):
        proposal = await proposed(world, proposer)
        for approver in {admin, second, twin} - {proposer}:
            await refused(world, approver, proposal)
        await approve(world, other, proposal)
    for by in (admin, second, twin):
        with pytest.raises(NotAllowed):
            await hands.confirm(gateway, again(gateway, third), by=by.actor, reason=WHY)
    await staff.confirm_staff(gateway, login=third.login, reason=WHY)
    await approve(world, admin, await proposed(world, third))


async def test_a_colleagues_account_that_was_taken_by_a_new_link_approves_nothing_of_who_took_it(world: World) -> None:
    gateway = world.gateway
    admin, colleague, other = [await invited(gateway, staff.COMMAND) for _ in range(3)]
    proposal = await proposed(world, admin)
    made = await staff.renew_link(gateway, colleague, by=admin.actor, reason=WHY)
    assert proposals.may_approve(gateway.reader, colleague.actor, proposal), "nobody has used it yet"
    taken = await set_up(gateway, made.link)
    await refused(world, taken, proposal)
    own = await staff.renew_link(gateway, again(gateway, taken), by=taken.actor, reason=WHY)
    await refused(world, await set_up(gateway, own.link), proposal)
    as_him = await proposed(world, taken)
    # He gets his account back from somebody else: what was proposed meanwhile stays in the hands that it was in.
    back = await set_up(gateway, (await staff.renew_link(gateway, again(gateway, taken), by=other.actor, reason=WHY)).link)
    await refused(world, admin, as_him)
    await approve(world, back, await proposed(world, admin))


async def test_a_link_that_is_used_while_its_owner_is_taken_for_a_second_person_wins(world: World) -> None:
    """The approval was computed from an account that its colleague sets up at this very moment: the book turns it away."""
    gateway = world.gateway
    admin, colleague = [await invited(gateway, staff.COMMAND) for _ in range(2)]
    proposal = await proposed(world, admin)
    had = world.available(world.hong.accounts["bank"].id)
    made = await staff.renew_link(gateway, colleague, by=admin.actor, reason=WHY)
    commit, setting_up = gateway.book.commit, asyncio.Event()

    async def beside(change: Change) -> None:
        if any(put.table == "proposals" for put in change.puts) and not setting_up.is_set():
            setting_up.set()
            await set_up(gateway, made.link)
        await commit(change)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gateway.book, "commit", beside)
        with pytest.raises(WrongState):
            await approve(world, colleague, proposal)
    assert world.available(world.hong.accounts["bank"].id) == had
    await refused(world, colleague, proposal)


async def limited(world: World) -> tuple[int | None, int | None]:
    now = limits.of_account(world.gateway.reader, world.hong.accounts["bank"].id)
    return now.bank_payment, now.bank_day


async def limit(world: World, by: Person, payment: str, day: str) -> bool:
    account = world.hong.accounts["bank"].id
    return await proposals.change_limits(world.gateway, by.actor, account=account, payment=payment, day=day, reason=WHY)


async def test_a_limit_is_lowered_by_one_person_and_raised_by_two(world: World) -> None:
    gateway = world.gateway
    clerk, admin = await invited(gateway, staff.COMMAND, "support"), await invited(gateway, staff.COMMAND)
    assert not await limit(world, clerk, "1000", "5000")
    assert await limited(world) == (1000, 5000)
    assert await limit(world, clerk, "2000", "4000"), "half of it is higher"
    assert await limited(world) == (1000, 4000)
    (waiting,) = proposals.waiting(gateway.reader)
    await refused(world, clerk, waiting)
    assert not await limit(world, clerk, "500", "3000"), "lowered meanwhile"
    await approve(world, admin, waiting)
    assert await limited(world) == (2000, 3000), "only what was proposed is raised"
    with pytest.raises(WrongState):
        await approve(world, admin, waiting)
    assert await limit(world, clerk, "", "3000"), "to take a limit away is to raise it"
    (waiting,) = proposals.waiting(gateway.reader)
    assert waiting.limits == {"payment": None}
    await approve(world, admin, waiting)
    assert await limited(world) == (None, 3000)
    for wrong in ({"payment": "x", "day": ""}, {"payment": "", "day": "-1"}):
        with pytest.raises(BadInput):
            await limit(world, clerk, wrong["payment"], wrong["day"])


async def test_a_limit_that_is_lowered_while_another_is_approved_is_not_lost(world: World) -> None:
    gateway = world.gateway
    clerk, admin = await invited(gateway, staff.COMMAND, "support"), await invited(gateway, staff.COMMAND)
    await limit(world, clerk, "1000", "5000")
    await limit(world, clerk, "2000", "5000")
    (waiting,) = proposals.waiting(gateway.reader)
    commit, lowering = gateway.book.commit, asyncio.Event()

    async def beside(change: Change) -> None:
        if any(put.table == "proposals" for put in change.puts) and not lowering.is_set():
            lowering.set()
            await limit(world, clerk, "1000", "10")
        await commit(change)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gateway.book, "commit", beside)
        with pytest.raises(WrongState):
            await approve(world, admin, waiting)
    assert await limited(world) == (1000, 10)
    await approve(world, admin, waiting)
    assert await limited(world) == (2000, 10)


async def link(world: World, by: Person) -> None:
    await forgotten.make_password_link(world.gateway, by.actor, login="hong", reason=WHY)


async def code(world: World, by: Person) -> None:
    await operations.enrol_code(world.gateway, by.actor, login="hong", reason=WHY)


@pytest.mark.parametrize(("first", "second"), [(link, code), (code, link)])
async def test_two_people_hand_over_the_two_credentials_of_one_customer(world: World, first: Act, second: Act) -> None:
    gateway = world.gateway
    clerk, admin, colleague = [await invited(gateway, staff.COMMAND, role) for role in ("support", "admin", "support")]
    self_made = await invited(gateway, clerk.actor, "support")
    await first(world, clerk)
    await first(world, clerk)  # a letter that was lost: the same credential again
    for by in (clerk, self_made):
        before = world.dump(leave_out=())
        with pytest.raises(NotAllowed):
            await second(world, by)
        assert world.dump(leave_out=()) == before
    await operations.enrol_code(gateway, clerk.actor, login="kim", reason=WHY)
    await second(world, colleague)
    with pytest.raises(NotAllowed):
        await first(world, colleague)
    await first(world, admin)
    world.clock.advance(handed_over.APART_S)
    await second(world, clerk)


@pytest.mark.parametrize(("first", "second"), [(link, code), (code, link)])
async def test_both_credentials_at_the_same_moment_are_not_one_persons(world: World, first: Act, second: Act) -> None:
    clerk = await invited(world.gateway, staff.COMMAND, "support")
    done = await asyncio.gather(first(world, clerk), second(world, clerk), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done if one is not None) in (["NotAllowed"], ["Stale"])
    made = {str(row["urn"]).partition(":")[0] for row in world.rows("enrolments") if row["used_at"] is None}
    assert len(made) == 1


async def test_a_merchants_money_is_sent_elsewhere_by_no_person_alone(world: World) -> None:
    """Neither by an admin of the operator nor by a merchant's first admin, whose link that very admin has had in hand."""
    gateway = world.gateway
    admin, other = [await invited(gateway, staff.COMMAND) for _ in range(2)]
    made = await staff.invite(gateway, by=admin.actor, face="merchant", merchant="shop", login="their-first", name="First", role="admin")
    theirs = await set_up(gateway, made.link)
    for by in (admin, theirs):
        account = {"merchant": "shop", "bank": "Hanbit", "number": "110-222-333444"}
        waiting = await proposals.propose_payout_account(gateway, by.actor, **account, reason=WHY)
        proposal = proposals.find(gateway.reader, waiting)
        assert proposal is not None
        assert [one.id for one in proposals.waiting(gateway.reader)] == [waiting], "one waits at a time"
        await refused(world, admin, proposal)
        assert terms.of_merchant(gateway.reader, "shop").payout_masked is None
    assert not any("333444" in str(row) for row in (*world.rows("audit"), *world.rows("proposals")))
    (last,) = proposals.waiting(gateway.reader)
    await approve(world, other, last)
    assert (terms.of_merchant(gateway.reader, "shop").payout_masked or "").endswith("3444")
    with pytest.raises(BadInput):
        await proposals.propose_payout_account(gateway, admin.actor, merchant="shop", bank="Hanbit", number="1", reason=WHY)
