"""What the demo's cases and the tests may change in the running shop: a token from its folder opens it."""

import asyncio
import hmac
import logging
import secrets
from pathlib import Path
from typing import Final

from starlette.requests import Request

from hanbit.kernel.errors import BadInput, NotAllowed
from hanbit.merchant.files import write_private
from hanbit.merchant.handlers import CONFIRM_WITHIN_S, No, Yes
from hanbit.merchant.order import Order

ANSWERS: Final = ("yes", "no", "silent", "error")
TOKEN_FILE: Final = "staff.token"
_log = logging.getLogger("hanbit.demo.shop")


class Staff:
    """The shop's handlers, and the switch that decides what the confirm handler says."""

    def __init__(self, folder: Path) -> None:
        path = folder / TOKEN_FILE
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24).encode())
        self.token = path.read_text("ascii")
        self.answer = "yes"

    def set_answer(self, answer: str) -> None:
        """One of `ANSWERS`."""
        if answer not in ANSWERS:
            raise BadInput(f"answer: one of {', '.join(ANSWERS)}")
        self.answer = answer

    def is_token(self, token: str) -> bool:
        """Whether this is the token of the shop's folder."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def check(self, request: Request) -> None:
        """A program of the staff shows the token itself; NotAllowed where it does not."""
        word, _, token = request.headers.get("authorization", "").partition(" ")
        if word != "Bearer" or not self.is_token(token):
            raise NotAllowed("staff only")

    async def on_confirm(self, order: Order) -> Yes | No:
        """R9: the shop's own say, after the SDK has compared the order."""
        if self.answer == "no":
            return No(ko="죄송합니다. 방금 다 팔렸습니다.", en="Sorry, it has just sold out.")
        if self.answer == "silent":
            await asyncio.sleep(CONFIRM_WITHIN_S * 2)
        if self.answer == "error":
            raise RuntimeError(f"the demo was told to fail at {order.tid}")
        return Yes()

    async def on_outcome(self, order: Order) -> None:
        """R11, C3: a real shop would pack the parcel here, put the goods back on the shelf, or await them back."""
        _log.info("order %s is %s: %s", order.tid, order.state, "packed" if order.may_deliver else "back on the shelf")
