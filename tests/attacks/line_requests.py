"""What a merchant asks for over its line, and what a refusal of it leaves: nothing."""

from hanbit.protocols.line import RefusedByGateway
from hanbit.protocols.signed import Signer, peek_claims, peek_typ
from tests.world import World

DAY_S = 86_400
UNTOUCHED = ("audit", "log", "tiles", "throttles", "sessions")


def merchant(world: World, name: str = "shop") -> Signer:
    return world.line.links[name].signer


async def answered(world: World, compact: str, name: str = "shop") -> str:
    reply = await world.line.links[name].to_gateway(compact)
    assert reply is not None
    return reply


async def refused(world: World, compact: str, code: str, name: str = "shop") -> None:
    """It is answered `refused` with this code, and not a row has changed but the audit's."""
    before = world.dump(leave_out=UNTOUCHED)
    reply = await answered(world, compact, name)
    assert peek_typ(reply) == RefusedByGateway.TYP
    assert peek_claims(reply)["code"] == code
    assert world.dump(leave_out=UNTOUCHED) == before
