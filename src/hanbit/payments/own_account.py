"""What somebody changes of his own way into a console: password, second factors, where else he is logged in.

There is always a second factor left, and a new password ends every other log-in: whoever knew the old one is out.
"""

from hanbit.crypto.passwords import check_new
from hanbit.db.change import Change, Put, Stale
from hanbit.kernel import ids
from hanbit.kernel.errors import NotFound, WrongState
from hanbit.parties import console_sessions, people_factors
from hanbit.parties.people_factors import FACTORS_MAX
from hanbit.payments import factors, staff_sign_in
from hanbit.payments.gateway import Gateway
from hanbit.payments.sign_in import LoginFailed, act
from hanbit.payments.staff_sign_in import At, SecondFactorFailed, Shown


def seed(gateway: Gateway, who: At) -> str:
    """What a new second factor is made from: another one with each log-in, step-up, and factor that is added or removed."""
    known = "".join(row["id"] for row in people_factors.of_person(gateway.reader, who.person.id))
    return ids.digest(f"{who.session.token_hash} {known}".encode("ascii"))


async def change_password(gateway: Gateway, who: At, *, present: str, chosen: str) -> None:
    """LoginFailed where the present one is wrong, BadInput where the chosen one is too weak; every other log-in ends."""
    person, at = who.person, gateway.clock.now()
    stored = person.password
    assert stored is not None, "whoever is logged in has a password"
    check_new(chosen, login=person.login)
    if not await factors.guarded(gateway, f"person:{person.id}", lambda: gateway.passwords.verify(stored, present)):
        await gateway.book.commit(Change(appends=(act(at, person.actor, "change password", "wrong_password", person.merchant),)))
        raise LoginFailed
    hashed = await gateway.passwords.hash(chosen)
    audit = act(at, person.actor, "change password", "ok", person.merchant)
    await _commit(gateway, Change(puts=(person.put(password=hashed), *_others(gateway, who, at)), appends=(audit,)))


async def add_factor(gateway: Gateway, who: At, shown: Shown, name: str) -> None:
    """One more second factor; SecondFactorFailed where code or passkey do not verify."""
    person, at = who.person, gateway.clock.now()
    if len(people_factors.of_person(gateway.reader, person.id)) >= FACTORS_MAX:
        raise WrongState(f"{FACTORS_MAX} second factors at most")
    row = staff_sign_in.new_factor(gateway, person, seed(gateway, who), shown, name)
    audit = act(at, person.actor, f"add second factor {row.row['kind']}", "ok", person.merchant)
    try:
        await gateway.book.commit(Change(puts=(row,), appends=(audit,)))
    except Stale as error:  # this passkey is somebody's already
        raise SecondFactorFailed from error


async def remove_factor(gateway: Gateway, who: At, factor_id: str) -> None:
    """It opens nothing any more; NotFound if it is not his, WrongState if it is his last."""
    person, at = who.person, gateway.clock.now()
    known = people_factors.of_person(gateway.reader, person.id)
    found = next((row for row in known if row["id"] == factor_id), None)
    if found is None:
        raise NotFound("no such second factor")
    kept = [row for row in known if row["id"] != factor_id]
    if not kept:
        raise WrongState("the last second factor stays: add another one first")
    audit = act(at, person.actor, f"remove second factor {found['kind']}", "ok", person.merchant)
    # The one that stays is written again, so that two who remove the last two beside one another cannot both succeed.
    await _commit(gateway, Change(puts=(people_factors.removed(found), people_factors.kept(kept[0])), appends=(audit,)))


async def end_other_sessions(gateway: Gateway, who: At) -> None:
    """Every log-in of his but this one ends here and now."""
    at = gateway.clock.now()
    audit = act(at, who.person.actor, "end other log-ins", "ok", who.person.merchant)
    await _commit(gateway, Change(puts=_others(gateway, who, at), appends=(audit,)))


def _others(gateway: Gateway, who: At, at: int) -> tuple[Put, ...]:
    found = console_sessions.of_person(gateway.reader, who.person.id, at)
    return tuple(session.put(ended_at=at) for session in found if session.token_hash != who.session.token_hash)


async def _commit(gateway: Gateway, change: Change) -> None:
    try:
        await gateway.book.commit(change)
    except Stale as error:
        raise WrongState("something else of yours was changed at the same moment") from error
