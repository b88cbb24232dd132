"""The tree of errors: who must act, the stable code, the HTTP status and the advice stand on the class.

    HanbitError
    ├── Refused             tell the person; nothing is broken, nothing has changed
    │   ├── BadInput            400  the grammar of a field, body or command is not met
    │   ├── NotSignedIn         401  no live web session
    │   ├── NotAllowed          403  cross-site or not one's own
    │   ├── NotFound            404  unknown and foreign ids look the same
    │   ├── WrongState          409  the payment is elsewhere by now
    │   ├── Conflict            409  the same id with other content
    │   ├── TooLarge            413  beyond a named limit
    │   ├── WrongMediaType      415
    │   ├── Declined            402  the payment cannot be made; `reason` says why
    │   └── TooManyTries        429  wait; `retry_after_s` says how long
    ├── ProtocolViolation   the peer is wrong: keep the bytes, change nothing
    │   └── (its `code` names the broken rule)
    └── Unavailable         503  the outcome is unknown or the server is full; ask again

Anything else that is raised is our own bug.
"""

from typing import ClassVar


class HanbitError(Exception):
    """An error that somebody can act on; `code` is stable, `advice` says what to do next."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    advice: ClassVar[str] = "Try again; if it stays, ask the operator and quote the reference."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class Refused(HanbitError):
    """Nothing is broken and nothing has changed; the person is told why."""

    code = "refused"
    status = 400
    advice = "Check what you sent and try again."


class BadInput(Refused):
    """The written grammar of a field, a body, a frame or a command is not met."""

    code = "bad_input"


class NotSignedIn(Refused):
    """There is no live web session."""

    code = "not_signed_in"
    status = 401
    advice = "Log in again; the payment is kept."


class NotAllowed(Refused):
    """The act comes from another site or belongs to somebody else."""

    code = "not_allowed"
    status = 403
    advice = "Go back to the shop and start from there."


class NotFound(Refused):
    """No such thing, or not yours: the two look the same."""

    code = "not_found"
    status = 404
    advice = "Check the address, or go back to the shop."


class WrongState(Refused):
    """The payment has moved on; the page of its true state is shown instead."""

    code = "wrong_state"
    status = 409
    advice = "Look at the present state of the payment."


class Conflict(Refused):
    """The same id came with other content."""

    code = "conflict"
    status = 409
    advice = "Use a new id for other content."


class TooLarge(Refused):
    """A body, field or queue is beyond its named limit."""

    code = "too_large"
    status = 413
    advice = "Send less."


class WrongMediaType(Refused):
    """The body is of a kind that this address does not take."""

    code = "wrong_media_type"
    status = 415
    advice = "Send application/json."


class Declined(Refused):
    """The payment cannot be made; `reason` is one of `payments.states.DECLINE_REASONS`."""

    code = "declined"
    status = 402
    advice = "Choose another account, or ask the bank."

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class TooManyTries(Refused):
    """A factor or a sender waits; live sessions and other factors go on."""

    code = "too_many_tries"
    status = 429
    advice = "Wait, then try again."

    def __init__(self, detail: str = "", *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class ProtocolViolation(HanbitError):
    """The peer broke a rule of the protocol; the rule's name is the error's code."""

    code = "protocol_violation"
    status = 400
    advice = "The message was not accepted and nothing has changed."

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(detail)
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}" if self.detail else self.rule


def code_on_the_line(error: HanbitError) -> str:
    """What a peer is told in `refused`: the rule that it broke, else the error's code."""
    return error.rule if isinstance(error, ProtocolViolation) else error.code


class Unavailable(HanbitError):
    """The outcome is not known yet or there is no room; the same request may be sent again."""

    code = "unavailable"
    status = 503
    advice = "Nothing is lost; try again in a moment."

    def __init__(self, detail: str = "", *, retry_after_s: int = 2) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
