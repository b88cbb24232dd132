"""How the line is now, in figures: for the metrics, where merchants are counted and never named, and for the operator."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MerchantStats:
    """What one merchant's connections look like now."""

    connections: int
    pending: int
    """Our requests that wait for an answer."""
    unserved: int
    """The merchant's frames that wait to be served or are being served."""
    queue_bytes: int
    round_trip_s: float | None
    offset_s: int | None
    unsolicited: int


@dataclass(frozen=True, slots=True)
class LineFigures:
    """How one merchant's line is now, for the operator."""

    up: bool = False
    connections: int = 0
    post: str | None = None
    """How POST to this merchant is: up, down, or None where it takes none."""
    round_trip_s: float | None = None
    offset_s: int | None = None
    down_reason: str | None = None


@dataclass(frozen=True, slots=True)
class LineStats:
    """What the metrics page shows of the line; merchants are counted there, never named."""

    merchants: dict[str, MerchantStats]
    greeting: int
    closed: dict[str, int]
    """Connections that ended, by reason, since the start."""
