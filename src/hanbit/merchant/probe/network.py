"""What a false network does: it answers the wrong question, answers twice, breaks frames, and stands in the payment server's place."""

from collections.abc import Callable
from typing import Any, Final

from hanbit.kernel import ids
from hanbit.merchant.probe.case import FORGER, Case
from hanbit.merchant.probe.forge import draft
from hanbit.merchant.probe.stage import Stage
from hanbit.merchant.probe.ways import Guise
from hanbit.protocols.line import HELLO_LIFETIME_S, HelloFromGateway, RefusedByGateway
from hanbit.protocols.redirect.messages import Inquiry, Status

_BELIEVED: Final = "the shop delivers, or gives up an order, on an answer to something else"
_TAKEN_OVER: Final = "whoever answers in the payment server's place speaks for it"


def _answering(change: Callable[[Stage, dict[str, Any]], dict[str, Any]], *, settled: bool = False) -> Callable[[Stage], Any]:
    """Answer the merchant's own inquiry about an unpaid order with a status that is changed so."""

    async def play(stage: Stage) -> None:
        order = await stage.order()
        before = await stage.shop_state(order)
        inquiry = await stage.inquiry(order)
        forged = stage.unconfirmed(order, prev=order.hash).compact() if settled else None
        claims = {"tid": order.tid, "req": ids.digest(inquiry.encode("ascii")), "state": "settled", "outcome": forged}
        status = draft(Status, stage.operator.gateway, stage.operator.merchant, stage.at, **change(stage, claims))
        await stage.offer(status.compact(), within=forged or "")
        if before is not None:
            await stage.compare(order, before)

    return play


async def _answered_twice(stage: Stage) -> None:
    order = await stage.order()
    before = await stage.shop_state(order)
    inquiry = await stage.inquiry(order)
    await stage.way.tell(stage.chores.status(inquiry).compact)
    forged = stage.unconfirmed(order, prev=order.hash).compact()
    await stage.offer(stage.chores.status(inquiry, state="settled", outcome=forged).compact, within=forged)
    if before is not None:
        await stage.compare(order, before)


async def _refused(stage: Stage) -> None:
    order = await stage.order()
    before = await stage.shop_state(order)
    inquiry = await stage.inquiry(order)
    claims = {"req": ids.digest(inquiry.encode("ascii")), "code": "not_found"}
    await stage.offer(draft(RefusedByGateway, stage.operator.gateway, stage.operator.merchant, stage.at, **claims).compact())
    if before is not None:
        await stage.compare(order, before)


async def _hello_again(stage: Stage) -> None:
    await stage.offer(_hello(stage, "gateway"))
    await stage.confirmed()


async def _reflected_inquiry(stage: Stage) -> None:
    order = await stage.order()
    await stage.offer(draft(Inquiry, stage.operator.gateway, stage.operator.merchant, stage.at, tid=order.tid, exp=stage.at + 60).compact())


def _garbage(frame: str) -> Callable[[Stage], Any]:
    async def play(stage: Stage) -> None:
        await stage.offer(frame)
        await stage.confirmed()

    return play


def _in_guise(line: str, speaker: str) -> Callable[[Stage], Any]:
    """Meet the merchant with this certificate, say hello under this key, and send a notice that is right in everything."""

    async def play(stage: Stage) -> None:
        order = await stage.order()
        await stage.meet(Guise(line, lambda: _hello(stage, speaker)), stage.notice(order).compact())

    return play


async def _hello_to_another(stage: Stage) -> None:
    order = await stage.order()
    other = stage.party("other-merchant").urn
    await stage.meet(Guise("gateway-line", lambda: _hello(stage, "gateway", other)), stage.notice(order).compact())


def _hello(stage: Stage, signer: str, audience: str = "") -> str:
    at = stage.at
    claims = {"nonce": ids.new_token(), "time": at, "exp": at + HELLO_LIFETIME_S}
    return draft(HelloFromGateway, stage.party(signer), audience or stage.operator.merchant, at, **claims).compact()


NETWORK: Final = (
    Case(
        "answer_to_another",
        "network",
        "the merchant's inquiry is answered with the status of another request",
        "RQ: req = hash of my request",
        _BELIEVED,
        _answering(lambda _, claims: claims | {"req": ids.digest(b"another request")}),
        dials=True,
    ),
    Case(
        "answer_for_another_tid",
        "network",
        "the status that answers an inquiry is about another tid",
        "RQ: tid = the one that I asked for",
        _BELIEVED,
        _answering(lambda _, claims: claims | {"tid": ids.new_token()}),
        dials=True,
    ),
    Case(
        "answer_without_proof",
        "network",
        'the status says "settled" and carries no settled message',
        "R11: these bytes alone authorise delivery",
        "goods that nobody paid are delivered",
        _answering(lambda _, claims: claims),
        dials=True,
    ),
    Case(
        "answer_with_forged_outcome",
        "network",
        'the status says "settled" and carries a settled message that continues no confirmation',
        "R11: settled continues my own confirmation",
        "goods that nobody paid are delivered",
        _answering(lambda _, claims: claims, settled=True),
        dials=True,
    ),
    Case(
        "answer_to_many",
        "network",
        "the status names the merchant's request in a list, beside foreign ones",
        "req is one hash, but in an acknowledgement",
        _BELIEVED,
        _answering(lambda _, claims: claims | {"req": [claims["req"], ids.digest(b"a foreign request")]}, settled=True),
        dials=True,
    ),
    Case(
        "answered_twice",
        "network",
        "the inquiry is answered honestly, and then once more with a forged outcome",
        "the first good answer counts; R11: prev = my confirmation",
        _BELIEVED,
        _answered_twice,
        dials=True,
    ),
    Case(
        "refused_for_an_answer",
        "network",
        "the inquiry is answered `refused`",
        "refused decides nothing about an order",
        "an order is given up that may still be paid",
        _refused,
        dials=True,
    ),
    Case(
        "inquiry_turned_round",
        "network",
        "the payment server asks the merchant what only a merchant asks",
        "typ fits the direction",
        "messages of the other direction are answered with signed ones",
        _reflected_inquiry,
    ),
    Case(
        "hello_again",
        "network",
        "a second hello in the middle; an honest notice afterwards is confirmed",
        "hello is the first frame",
        "the line begins anew under somebody else's clock",
        _hello_again,
    ),
    Case(
        "no_message",
        "network",
        "a frame that is no message at all; when the merchant is back an honest notice is confirmed",
        "a frame of no known shape closes the connection",
        "one broken frame keeps a shop from selling",
        _garbage("hello"),
    ),
    Case(
        "json_serialisation",
        "network",
        "a JWS in JSON form; when the merchant is back an honest notice is confirmed",
        "compact JWS only",
        "one signature of several is verified, another one believed",
        _garbage('{"payload":"e30","signatures":[{"protected":"e30","signature":"AA"}]}'),
    ),
    Case(
        "line_of_another",
        "network",
        "another merchant stands at the other end of the line",
        "the peer's URI is compared before the first frame",
        _TAKEN_OVER,
        _in_guise("other-merchant-line", "gateway"),
    ),
    Case(
        "line_of_false_root",
        "network",
        "a certificate of a second root with the very same names stands at the other end of the line",
        "TLS to the pinned root",
        _TAKEN_OVER,
        _in_guise("false-line", "gateway"),
    ),
    Case(
        "hello_by_false_root",
        "network",
        "the right certificate on the line, and a hello that a false gateway has signed",
        "signed hello first",
        FORGER,
        _in_guise("gateway-line", "false-gateway"),
        dials=True,
    ),
    Case(
        "hello_by_merchant",
        "network",
        "the right certificate on the line, and a hello that another merchant has signed",
        "signed hello first",
        FORGER,
        _in_guise("gateway-line", "other-merchant"),
        dials=True,
    ),
    Case(
        "hello_to_another",
        "network",
        "the gateway's hello to another merchant is played to this one",
        "aud = me",
        "a recorded beginning opens a line",
        _hello_to_another,
        dials=True,
    ),
)
"""In the order in which they are played."""
