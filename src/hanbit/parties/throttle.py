"""Throttling of guesses: a factor waits after five wrong tries, 30 seconds growing to an hour; nothing is ever locked for good.

A try is counted before it is checked, so that many guesses at once gain nothing; a right answer clears the count. Names that belong to
nobody are counted in the same rows under a MAC, so that they behave alike at every process; only so many are kept, lest they fill the book.
"""

from dataclasses import dataclass

from hanbit.crypto import envelopes
from hanbit.db.change import Put, Value
from hanbit.db.reading import Reader
from hanbit.kernel import ids
from hanbit.kernel.errors import TooManyTries

FREE_TRIES = 5
FIRST_WAIT_S = 30
LONGEST_WAIT_S = 3600
UNKNOWN_KEPT = 10_000
"""Counts of names that belong to nobody; whoever sends more makes us forget some of them, no matter which."""
UNKNOWN, UNKNOWN_END = "nobody:", "nobody;"
"""How such a factor begins, and the first text behind all that do."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a factor was tried without success, and until when it waits."""

    factor: str
    version: int = 0
    failures: int = 0
    wait_until: int = 0


def unknown(secret: bytes, name: str) -> str:
    """The factor of a name that belongs to nobody; what somebody typed, perhaps his password, is not kept."""
    return UNKNOWN + ids.encode_base64url(envelopes.mac(secret, f"{UNKNOWN}{name}".encode("utf-8", "replace")))


def read(reader: Reader, factor: str) -> Tries:
    """The count of a factor, for example `login:<customer>` or `account:<account>`."""
    row = reader.one("SELECT * FROM throttles WHERE factor = ?", factor)
    return Tries(factor) if row is None else Tries(row["factor"], row["version"], row["failures"], row["wait_until"])


def count(tries: Tries, at: int) -> Tries:
    """One more try, counted as wrong until it is cleared; TooManyTries while the factor waits."""
    if (
        tries.failures >= FREE_TRIES and at < tries.wait_until <= at + LONGEST_WAIT_S
    ):  # a later one was written under a clock that has been put right since
        raise TooManyTries(retry_after_s=tries.wait_until - at)
    failures = tries.failures + 1
    wait_s = 0 if failures < FREE_TRIES else min(FIRST_WAIT_S << (failures - FREE_TRIES), LONGEST_WAIT_S)
    return Tries(tries.factor, tries.version, failures, at + wait_s)


def put(tries: Tries) -> Put:
    """The row of a count."""
    row: dict[str, Value] = {"factor": tries.factor, "failures": tries.failures, "wait_until": tries.wait_until}
    return Put("throttles", row, tries.version)


def cleared(tries: Tries) -> Put:
    """The row after a right answer; `tries` is the count as it was just written. Without failures its moment makes nobody wait."""
    return Put("throttles", {"factor": tries.factor, "failures": 0, "wait_until": tries.wait_until}, tries.version + 1)


def without_one(tries: Tries) -> Tries:
    """The count without one of its tries, which has turned out right; with few enough left nobody waits."""
    return Tries(tries.factor, tries.version, max(tries.failures - 1, 0), tries.wait_until)


def uncounted(tries: Tries, before: Tries) -> Put:
    """The row as it was before a try that was not checked; `tries` is the count as it was just written."""
    return Put("throttles", {"factor": tries.factor, "failures": before.failures, "wait_until": before.wait_until}, tries.version + 1)
