"""Orders and keys that this process has verified already: the same bytes need not be verified twice within an opening's life."""

from collections import OrderedDict
from typing import TypeVar, cast

from hanbit.protocols.fields import Message
from hanbit.protocols.signed import SignedMessage

T = TypeVar("T", bound=Message)
OPENINGS_KEPT = 40_000
"""Messages remembered (some 2.5 KB each; an opening has two); the least recent is forgotten first and simply verified again."""
FAILURES_MAX = 3
"""Sealed messages that did not open, after which their opening is burnt."""


class KnownOpenings:
    """Verified messages by their exact bytes. That they were good stays true; who may still use them is looked at every time."""

    def __init__(self) -> None:
        self._messages: OrderedDict[str, SignedMessage[Message]] = OrderedDict()
        self._failures: OrderedDict[str, int] = OrderedDict()

    def get(self, unverified: str, kind: type[T]) -> SignedMessage[T] | None:
        """The message of this kind with these very bytes, if it was verified here."""
        known = self._messages.get(unverified)
        return cast("SignedMessage[T]", known) if known is not None and type(known.claims) is kind else None

    def keep(self, message: SignedMessage[Message]) -> None:
        """Remember a message that `verify` or `sign` made."""
        self._messages[message.compact] = message
        if len(self._messages) > OPENINGS_KEPT:
            self._messages.popitem(last=False)

    def fail(self, ctx: str) -> None:
        """One more sealed message under this ctx did not open."""
        self._failures[ctx] = self._failures.pop(ctx, 0) + 1
        if len(self._failures) > OPENINGS_KEPT:
            self._failures.popitem(last=False)

    def is_burnt(self, ctx: str) -> bool:
        """Whether so many did not open that nothing under this ctx is tried any more."""
        return self._failures.get(ctx, 0) >= FAILURES_MAX
