"""Throttling as pure arithmetic: five free tries, then 30 seconds growing to an hour; nothing is locked for good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.kernel.errors import TooManyTries
from hanbit.parties.throttle import FREE_TRIES, LONGEST_WAIT_S, UNKNOWN, UNKNOWN_END, Tries, cleared, count, put, unknown

NOW = 1_800_000_000


def test_four_wrong_tries_wait_for_nothing_and_the_fifth_for_half_a_minute() -> None:
    tries = Tries("login:x")
    for _ in range(FREE_TRIES - 1):
        tries = count(tries, NOW)
        assert tries.wait_until == NOW
    assert count(tries, NOW).wait_until == NOW + 30


@given(st.lists(st.integers(0, 5000), min_size=5, max_size=40))
def test_no_wait_is_skipped_or_longer_than_an_hour(pauses: list[int]) -> None:
    tries, at = Tries("login:x"), NOW
    for pause in pauses:
        at += pause
        if at < tries.wait_until:
            with pytest.raises(TooManyTries) as waits:
                count(tries, at)
            assert 0 < waits.value.retry_after_s <= LONGEST_WAIT_S
            assert at + waits.value.retry_after_s == tries.wait_until
        else:
            counted = count(tries, at)
            assert counted.failures == tries.failures + 1
            tries = counted


def test_a_right_answer_clears_the_count_that_was_written() -> None:
    tries = count(Tries("login:x", 3, 4, 0), NOW)
    assert (put(tries).version, put(tries).row["failures"]) == (3, 5)
    assert (cleared(tries).version, cleared(tries).row["failures"]) == (4, 0)
    assert count(Tries("login:x", 5, 0, tries.wait_until), NOW).failures == 1, "nobody waits on a count without failures"


def test_a_name_that_belongs_to_nobody_is_kept_under_a_mac() -> None:
    factor = unknown(b"pepper", "correct horse")
    assert factor == unknown(b"pepper", "correct horse") != unknown(b"other", "correct horse")
    assert UNKNOWN <= factor < UNKNOWN_END
    assert "horse" not in factor
