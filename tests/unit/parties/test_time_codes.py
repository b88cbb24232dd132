"""Codes that follow the time: the RFCs' own vectors, a clock that is off, and no code twice."""

import pytest

from hanbit.parties import time_codes

RFC_SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(at: int, code: str) -> None:
    """Appendix B gives eight digits; an authenticator app shows the last six."""
    assert time_codes.code_of(RFC_SECRET, at // 30) == code
    assert time_codes.step_of(RFC_SECRET, code, at=at, after=0) == at // 30


@pytest.mark.parametrize(
    ("count", "code"), list(enumerate(["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]))
)
def test_codes_are_those_of_rfc_4226(count: int, code: str) -> None:
    assert time_codes.code_of(RFC_SECRET, count) == code


def test_a_clock_may_be_one_step_off_and_no_more() -> None:
    at = 1_800_000_000
    step = at // 30
    for ahead, taken in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        found = time_codes.step_of(RFC_SECRET, time_codes.code_of(RFC_SECRET, step + ahead), at=at, after=0)
        assert found == (step + ahead if taken else None)


def test_a_code_that_was_used_is_refused_as_is_any_before_it() -> None:
    at = 1_800_000_000
    step = at // 30
    assert time_codes.step_of(RFC_SECRET, time_codes.code_of(RFC_SECRET, step), at=at, after=step) is None
    assert time_codes.step_of(RFC_SECRET, time_codes.code_of(RFC_SECRET, step - 1), at=at, after=step) is None
    assert time_codes.step_of(RFC_SECRET, time_codes.code_of(RFC_SECRET, step + 1), at=at, after=step) == step + 1


@pytest.mark.parametrize(
    "typed", ["", "28708", "2870820", "٢٨٧٠٨٢", "\uff12\uff18\uff17\uff10\uff18\uff12", "28708a", "-87082", "287082\n", "+28708"]
)
def test_what_is_no_code_is_none(typed: str) -> None:
    assert time_codes.step_of(RFC_SECRET, typed, at=59, after=0) is None


def test_a_code_may_be_typed_with_its_space() -> None:
    assert time_codes.step_of(RFC_SECRET, "287 082", at=59, after=0) == 1


def test_the_secret_is_told_as_apps_and_people_read_it() -> None:
    assert time_codes.spelled(RFC_SECRET) == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"
    address = time_codes.address(RFC_SECRET, issuer="한빛은행", login="kim&co")
    assert address.startswith(
        "otpauth://totp/%ED%95%9C%EB%B9%9B%EC%9D%80%ED%96%89%3Akim%26co?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer="
    )
