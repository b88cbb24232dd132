"""Passwords: salted, peppered, bounded, and the same work for names that do not exist."""

import asyncio
import os
import sys
import threading
import unicodedata
from collections.abc import Iterator
from typing import Any

import argon2
import pytest
from argon2 import low_level

from hanbit.crypto.passwords import NICENESS, Passwords
from hanbit.kernel.errors import BadInput, Unavailable

PEPPER = bytes(range(32))


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(PEPPER, workers=2, waiting_max=4)
    yield made
    made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's own on Linux alone")
async def test_who_hashes_lets_the_others_go_first(passwords: Passwords) -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    there = await passwords._in_thread(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert there == max(mine, NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine, "the loop's thread stays as it is"


async def test_where_niceness_is_forbidden_people_log_in_all_the_same(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    stored = await passwords.hash("correct horse")
    assert await passwords.verify(stored, "correct horse")


async def test_stored_password_is_recognised_and_others_are_not(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct horse ")
    assert not await passwords.verify(stored, "Correct horse")


def test_stored_text_has_the_agreed_cost(passwords: Passwords) -> None:
    parameters = argon2.extract_parameters(passwords.hash_now("x"))
    assert (parameters.type, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (low_level.Type.ID, 19_456, 2, 1)
    assert (parameters.salt_len, parameters.hash_len, parameters.version) == (16, 32, 19)


def test_equal_passwords_are_stored_unequal(passwords: Passwords) -> None:
    assert passwords.hash_now("same") != passwords.hash_now("same")


async def test_stolen_book_without_the_pepper_recognises_nothing(passwords: Passwords) -> None:
    stored = passwords.hash_now("correct horse")
    thief = Passwords(bytes(32), workers=1, waiting_max=0)
    assert not await thief.verify(stored, "correct horse")
    thief.close()
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        low_level.verify_secret(stored.encode(), b"correct horse", low_level.Type.ID)


async def test_two_spellings_of_one_text_are_one_password(passwords: Passwords) -> None:
    text = "한빛 비밀번호 é"
    stored = await passwords.hash(unicodedata.normalize("NFC", text))
    assert await passwords.verify(stored, unicodedata.normalize("NFD", text))


async def test_the_last_of_128_characters_counts(passwords: Passwords) -> None:
    stored = await passwords.hash("x" * 127 + "y")
    assert await passwords.verify(stored, "x" * 127 + "y")
    assert not await passwords.verify(stored, "x" * 128)


@pytest.mark.parametrize("password", ["", "x" * 129, "\ud800"])
async def test_password_outside_the_grammar_is_bad_input_everywhere(passwords: Passwords, password: str) -> None:
    stored = passwords.hash_now("x")
    for attempt in (passwords.hash(password), passwords.verify(stored, password), passwords.verify_nobody(password)):
        with pytest.raises(BadInput):
            await attempt
    with pytest.raises(BadInput):
        passwords.hash_now(password)


@pytest.mark.parametrize(
    "stored", ["", "plain", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA", "$argon2i$v=19$m=19456,t=2,p=1$" + "A" * 22 + "$" + "A" * 43]
)
async def test_stored_text_that_is_not_ours_is_an_error_not_a_match(passwords: Passwords, stored: str) -> None:
    with pytest.raises(ValueError, match="not a password hash"):
        await passwords.verify(stored, "x")


async def test_unknown_name_costs_what_a_known_one_costs(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal time follows from equal work: the same call with the same parameters and lengths."""
    calls: list[tuple[Any, ...]] = []
    real = low_level.verify_secret

    def spy(stored: bytes, secret: bytes, kind: low_level.Type) -> bool:
        calls.append((argon2.extract_parameters(stored.decode()), len(stored), len(secret), kind))
        return real(stored, secret, kind)

    monkeypatch.setattr(low_level, "verify_secret", spy)
    assert not await passwords.verify(passwords.hash_now("right"), "wrong")
    await passwords.verify_nobody("wrong")
    assert len(calls) == 2
    assert calls[0] == calls[1]


@pytest.mark.parametrize("pepper", [b"", b"short", bytes(31)])
def test_missing_pepper_fails_closed(pepper: bytes) -> None:
    with pytest.raises(ValueError, match="pepper"):
        Passwords(pepper, workers=1, waiting_max=1)


class Gate:
    """Holds the workers inside argon2 until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(low_level, "hash_secret", self._hash)

    def _hash(self, *_: object) -> bytes:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self.entered.release()
        assert self.opened.wait(30)
        with self._lock:
            self._inside -= 1
        return b"hash"


async def test_more_than_may_wait_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    passwords = Passwords(PEPPER, workers=2, waiting_max=3)
    waiting = [asyncio.ensure_future(passwords.hash("x")) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.hash("x")
    gate.opened.set()
    assert await asyncio.gather(*waiting) == ["hash"] * 5
    assert gate.most <= 2
    assert await passwords.hash("x") == "hash"
    passwords.close()


async def test_caller_who_left_gives_his_place_back_only_when_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    passwords = Passwords(PEPPER, workers=1, waiting_max=0)
    left = asyncio.ensure_future(passwords.hash("x"))
    await asyncio.to_thread(gate.entered.acquire)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    with pytest.raises(Unavailable):
        await passwords.hash("x")
    gate.opened.set()
    passwords.close()


async def test_closed_pool_is_unavailable(passwords: Passwords) -> None:
    passwords.close()
    with pytest.raises(Unavailable):
        await passwords.hash("x")
