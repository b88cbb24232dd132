"""Passwords: argon2id over a pepper that lies outside the book, in a bounded pool of threads, at one cost for known and unknown names."""

import asyncio
import os
import re
import secrets
import sys
import threading
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from argon2 import low_level
from argon2.exceptions import VerifyMismatchError

from hanbit.crypto.envelopes import mac
from hanbit.kernel.errors import BadInput, Unavailable

PASSWORD_CHARACTERS_MAX: Final = 128
NEW_PASSWORD_CHARACTERS_MIN: Final = 8
"""Of what somebody logs in with, under throttling (NIST SP 800-63B-4); an account's own password, asked for beside it, may be a PIN."""
DIFFERENT_CHARACTERS_MIN: Final = 4
PEPPER_BYTES_MIN: Final = 32
MEMORY_KIB: Final = 19_456
PASSES: Final = 2
LANES: Final = 1
"""The floor of OWASP's password storage cheat sheet; 31 ms a hash on a slow core."""
NICENESS: Final = 10
"""Of the threads that hash: beside log-ins the slowest payments wait less (docs/benchmarks.md, target 5)."""
_SALT_BYTES = 16
_HASH_BYTES = 32
_PREFIX = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"
_STORED = re.compile(re.escape(_PREFIX) + r"[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}")

T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords; `workers` run at a time, `waiting_max` more may wait, the next one is Unavailable."""

    def __init__(self, pepper: bytes, *, workers: int, waiting_max: int) -> None:
        if len(pepper) < PEPPER_BYTES_MIN:
            raise ValueError(f"the pepper has at least {PEPPER_BYTES_MIN} bytes")
        self._pepper = pepper
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="password", initializer=_give_way)
        self._room = threading.BoundedSemaphore(workers + waiting_max)
        self._nobody = _PREFIX + _unpadded(secrets.token_bytes(_SALT_BYTES)) + "$" + _unpadded(secrets.token_bytes(_HASH_BYTES))

    async def hash(self, password: str) -> str:
        """The PHC string to store; a password outside 1 to 128 characters is BadInput."""
        secret = self._secret(password)
        return await self._in_thread(lambda: _hash(secret))

    async def verify(self, stored: str, password: str) -> bool:
        """Whether this is the password that was stored; a stored text that we did not write is our own bug: ValueError."""
        if not _STORED.fullmatch(stored):
            raise ValueError("not a password hash of ours")
        secret = self._secret(password)
        return await self._in_thread(lambda: _matches(stored, secret))

    async def verify_nobody(self, password: str) -> None:
        """Spend what `verify` spends, for a name that does not exist, so that time tells nobody which names do."""
        await self.verify(self._nobody, password)

    def hash_now(self, password: str) -> str:
        """The PHC string, computed in the caller's thread (commands, sample data)."""
        return _hash(self._secret(password))

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _secret(self, password: str) -> bytes:
        """HMAC under the pepper: a stolen book alone cannot even be guessed at. NFKC, because keyboards compose differently."""
        if not 1 <= len(password) <= PASSWORD_CHARACTERS_MAX:
            raise BadInput("a password has 1 to 128 characters")
        try:
            return mac(self._pepper, unicodedata.normalize("NFKC", password).encode("utf-8"))
        except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
            raise BadInput("a password is text") from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise Unavailable("too many passwords are being checked")
        try:
            future = self._threads.submit(work)
        except RuntimeError as error:  # closed
            self._room.release()
            raise Unavailable("the server is stopping") from error
        # The place is free when the thread is, not when a caller who went away stops waiting.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, _done: "Future[T]") -> None:
        self._room.release()


def _give_way() -> None:
    """A hash takes a core for 30 ms: whoever pays at this moment goes first. On Linux niceness is a thread's own."""
    if sys.platform != "linux":
        return
    with suppress(OSError):  # where a sandbox forbids it people log in all the same
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, max(NICENESS, os.getpriority(os.PRIO_PROCESS, me)))  # never up, which only root may


def check_new(password: str, *, login: str) -> None:
    """Whether somebody may choose this password to log in with; BadInput says why not. Length counts, not signs and digits."""
    if not NEW_PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise BadInput(f"a log-in password has {NEW_PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters")
    if len(set(password)) < DIFFERENT_CHARACTERS_MIN or password.casefold() in {login.casefold(), login.casefold()[::-1]}:
        raise BadInput("this password is too easy to guess")


def _hash(secret: bytes) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    return low_level.hash_secret(secret, salt, PASSES, MEMORY_KIB, LANES, _HASH_BYTES, low_level.Type.ID).decode("ascii")


def _matches(stored: str, secret: bytes) -> bool:
    try:
        return low_level.verify_secret(stored.encode("ascii"), secret, low_level.Type.ID)
    except VerifyMismatchError:
        return False


def _unpadded(data: bytes) -> str:
    return b64encode(data).rstrip(b"=").decode("ascii")
