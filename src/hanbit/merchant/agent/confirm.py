"""order.confirm: the shop's say in an order, asked for when a notice for an equal order has come; only a clear yes is a yes.

    200 {"confirm": true}
    200 {"confirm": false, "message": {"ko": "…", "en": "…"}}     shown to the customer under the shop's name

Anything else, and no answer within three seconds, refuses the notice as `shop_silent`: no money moves.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from hanbit.kernel import ids
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import ProtocolViolation, Unavailable
from hanbit.merchant.agent.outbox import rfc_3339
from hanbit.merchant.agent.settings import CONFIRM, Endpoint
from hanbit.merchant.agent.shapes import OrderView
from hanbit.merchant.agent.webhooks import Called, Caller
from hanbit.merchant.handlers import CONFIRM_WITHIN_S, No, OnConfirm, Yes
from hanbit.merchant.order import Order
from hanbit.protocols.signed import check_strict_json

WITHIN_S: Final = CONFIRM_WITHIN_S - 0.1
"""A little less than the shop has, so that it is this file that says why."""
OK: Final = 200
_DEFAULT = No(ko="상점이 이 주문을 받을 수 없습니다.", en="The shop cannot take this order.")
_log = logging.getLogger("hanbit.merchant.agent")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the shop is asked."""

    type: str
    timestamp: str
    data: OrderView


class _Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ko: str
    en: str


class _Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    confirm: bool
    message: _Words | None = None


def asks(
    endpoint: Endpoint, secrets: Sequence[bytes], caller: Caller, clock: Clock, view: Callable[[Order], Awaitable[OrderView]]
) -> OnConfirm:
    """The handler that a Shop calls before it confirms."""

    async def on_confirm(order: Order) -> Yes | No:
        question = Question(type=CONFIRM, timestamp=rfc_3339(clock.now()), data=await view(order))
        event_id = f"ask_{ids.new_token()}"
        called = await caller.call(
            endpoint.url, secrets, event_id=event_id, body=msgspec.json.encode(question), within_s=WITHIN_S, read=True
        )
        extra = {"endpoint": endpoint.name, "delivery": event_id, "status": called.status, "duration_ms": called.duration_ms}
        try:
            answer = read_reply(called)
        except Unavailable as error:
            _log.warning("order.confirm got no usable answer, so the order is refused: %s", error.detail, extra=extra)
            raise
        _log.info("order.confirm: %s", "yes" if isinstance(answer, Yes) else "no", extra=extra)
        return answer

    return on_confirm


def read_reply(called: Called) -> Yes | No:
    """Yes or No; Unavailable for everything that is neither."""
    if called.status != OK:
        raise Unavailable(called.error or f"HTTP {called.status}")
    try:
        reply = msgspec.json.decode(called.content, type=_Reply)
        check_strict_json(called.content, "reply")  # a yes and a no in one answer is no clear yes
    except (ValueError, RecursionError, ProtocolViolation) as error:
        raise Unavailable('not {"confirm": true} and not {"confirm": false, "message": {"ko", "en"}}') from error
    if reply.confirm:
        return Yes()
    return No(ko=reply.message.ko, en=reply.message.en) if reply.message is not None else _DEFAULT
