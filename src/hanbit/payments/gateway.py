"""The payment server's parts, as the composition root hands them to every flow."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hanbit.crypto.passwords import Passwords
from hanbit.db.commit import Book
from hanbit.db.copying import Copier
from hanbit.db.reading import Reader
from hanbit.kernel.clock import Clock
from hanbit.kernel.errors import ProtocolViolation
from hanbit.line.figures import LineFigures
from hanbit.parties.keyring import Keyring
from hanbit.parties.registry import Registry
from hanbit.payments.allowance import TOO_MANY, Allowances
from hanbit.payments.known import KnownOpenings
from hanbit.payments.recounts import Recounts
from hanbit.protocols.signed import Signer
from hanbit.settings import Settings

SPENT, FAILED = "spent", "failed"
"""News for the other processes: a merchant's unasked frame was kept; a sealed message under this ctx did not open."""
NEWS = (SPENT, FAILED)


class AskingLine(Protocol):
    """What the flows need of the private line; `line.Line` is it."""

    async def ask(self, merchant_id: str, message: str) -> str:
        """Send one message and return the frame that answers it; Unavailable when the line is down or silent."""
        ...

    async def tell(self, merchant_id: str, message: str) -> None:
        """Send one message whose answer comes by itself; Unavailable when the line is down."""
        ...

    def connected(self, merchant_id: str) -> bool:
        """Whether a healthy connection of this merchant is there."""
        ...

    def drop(self, merchant_id: str, reason: str) -> None:
        """Hang up on a merchant whose certificate was just revoked, or whose line is registered anew."""
        ...

    def figures(self, merchant_id: str) -> LineFigures:
        """How the merchant's line is now."""
        ...


@dataclass(frozen=True, slots=True)
class Gateway:
    """Book, keys, line and clock of one payment server."""

    settings: Settings
    clock: Clock
    book: Book
    reader: Reader
    keyring: Keyring
    registry: Registry
    passwords: Passwords
    line: AskingLine
    observe: Callable[[str, str], None]
    """Counts an outcome: (what, reason)."""
    copier: Copier
    """Copies the book for a backup while payments go on."""
    announce: Callable[[str, str, str], None] = lambda _what, _name, _text: None
    """Tells the other processes of this gateway: (what, name, text). What is told may be lost."""
    acknowledged_every_s: float = 0.0
    """Acknowledgements are stored together at moments so far apart; 0: each as it comes."""
    openings: KnownOpenings = field(default_factory=KnownOpenings)
    deciding: set[str] = field(default_factory=set)
    """Requests (by number) and grants that are being decided at this moment: beside themselves they try no factor a second time."""
    speechless: dict[str, int] = field(default_factory=dict)
    """Merchants whose program does not know a console's messages → until when it is not asked again."""
    recounted: Recounts = field(default_factory=Recounts)
    allowances: Allowances = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowances", Allowances(self.clock.monotonic))

    @property
    def signer(self) -> Signer:
        """The gateway's signing key."""
        return self.keyring.signer

    @property
    def urn(self) -> str:
        """The gateway's name in messages."""
        return self.settings.gateway_urn


def spend_unasked(gateway: Gateway, merchant_id: str) -> None:
    """Before a frame that nobody asked this merchant for is kept; ProtocolViolation (`too_many`) beyond its allowance."""
    if not gateway.allowances.spend(merchant_id, "unasked", gateway.settings.inquiries_per_minute):
        raise ProtocolViolation(TOO_MANY)
    gateway.announce(SPENT, merchant_id, "")


def hear(gateway: Gateway, what: str, name: str) -> None:
    """What another process has told: limits that are counted in memory hold for all of them together."""
    if what == SPENT:
        gateway.allowances.spend(name, "unasked", gateway.settings.inquiries_per_minute)
    elif what == FAILED:
        gateway.openings.fail(name)
