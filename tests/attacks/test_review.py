"""What a slow reading of the core turned up: each was a way in once, and stays shut here."""


import pytest

from hanbit.kernel.errors import Unavailable
from hanbit.payments.sign_in import LoginFailed
from tests.world import World


async def refuse_to_hash(_stored: str, _password: str) -> bool:
    raise Unavailable("too many passwords are being checked")


@pytest.mark.parametrize("login", ["hong", "nobody"])
async def test_a_flood_of_logins_makes_nobody_wait_whose_password_was_never_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    """The queue of passwords is full: that is no wrong try, neither of a known name nor of one that belongs to nobody."""
    with monkeypatch.context() as patched:
        patched.setattr(world.gateway.passwords, "verify", refuse_to_hash)
        for _ in range(7):
            with pytest.raises(Unavailable):
                await (await world.visit()).login(login, "some password")
    with pytest.raises(LoginFailed):
        await (await world.visit()).login(login, "a wrong password")
    assert await (await world.visit()).login()


async def test_a_clock_that_was_wrong_for_a_moment_locks_nobody_out(world: World) -> None:
    world.clock.advance(6 * 3_600)
    for _ in range(5):
        with pytest.raises(LoginFailed):
            await (await world.visit()).login("hong", "a wrong password")
    world.clock.advance(-6 * 3_600)
    assert await (await world.visit()).login()
