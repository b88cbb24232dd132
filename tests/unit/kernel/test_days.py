"""Days of a time zone: every instant belongs to exactly one, also where clocks change at midnight."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.kernel.days import begins_at, day_of, read_day, zone_of
from hanbit.kernel.errors import BadInput

ZONES = ["UTC", "Asia/Seoul", "America/New_York", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe"]
"""Sao Paulo and Beirut have changed their clocks at midnight."""


@given(day=st.dates(date(2000, 1, 1), date(2037, 12, 31)), name=st.sampled_from(ZONES))
def test_a_day_begins_where_the_one_before_ends(day: date, name: str) -> None:
    zone = zone_of(name)
    begins = begins_at(day, zone)
    following = begins_at(day + timedelta(days=1), zone)
    assert begins <= following
    if begins < following:  # Samoa left a day out
        assert day_of(begins, zone) == day == day_of(following - 1, zone)


@pytest.mark.parametrize("name", ["", "Seoul", "../../etc/passwd", "/etc/localtime", "Asia", "Asia/Seoul\0", "x" * 5000])
def test_a_time_zone_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="time zone"):
        zone_of(name)


@pytest.mark.parametrize(
    "text",
    ["", "2027-1-1", "20270101", "2027-W01-1", "2027-02-30", "1970-01-01", "2200-01-01", "2027-01-01 ", "\uff12\uff10\uff12\uff17-01-01"],
)
def test_a_day_has_one_spelling(text: str) -> None:
    with pytest.raises(BadInput, match="day: YYYY-MM-DD"):
        read_day(text)


def test_a_day_is_read() -> None:
    assert read_day("2027-02-28") == date(2027, 2, 28)
