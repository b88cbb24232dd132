"""Money, ids and clocks: one spelling each, and nothing but BadInput for what is not in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanbit.kernel import ids
from hanbit.kernel.clock import ManualClock, SystemClock
from hanbit.kernel.errors import BadInput, Declined, HanbitError, ProtocolViolation, TooManyTries, Unavailable
from hanbit.kernel.money import AMOUNT_MAX, CURRENCY_EXPONENTS, Money, parse_amount, parse_money, parse_typed, typed


@given(st.integers(0, AMOUNT_MAX), st.sampled_from(sorted(CURRENCY_EXPONENTS)))
def test_an_amount_has_one_spelling_and_comes_back(amount: int, currency: str) -> None:
    assert parse_amount(str(amount)) == amount
    assert Money(amount, currency).text == str(amount)


@given(st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.none(), st.binary(max_size=5)))
def test_whatever_is_no_amount_is_bad_input(text: object) -> None:
    try:
        assert str(parse_amount(text)) == text
    except BadInput:
        assert not (isinstance(text, str) and text.isascii() and text.isdigit() and str(int(text)) == text and len(text) <= 15)


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "1.0", "1e3", " 1", "1\n", "٣", "1" * 16, "1,000", "0x1"])
def test_an_amount_in_another_spelling_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        parse_amount(text)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("0", "KRW", 0),
        ("220,000", "KRW", 220_000),
        ("220000", "JPY", 220_000),
        ("12.50", "USD", 1_250),
        ("12.5", "USD", 1_250),
        ("1,200", "USD", 120_000),
        ("1,200.50", "USD", 120_050),
        ("1,234.567", "KWD", 1_234_567),
        ("9" * 15, "KRW", AMOUNT_MAX),
        ("9,999,999,999,999.99", "USD", AMOUNT_MAX),
    ],
)
def test_an_amount_is_read_as_people_write_it(text: str, currency: str, minor: int) -> None:
    assert parse_typed(text, currency) == Money(minor, currency)


@given(st.integers(0, AMOUNT_MAX), st.sampled_from(sorted(CURRENCY_EXPONENTS)))
def test_what_a_field_shows_is_what_may_be_typed_into_it(amount: int, currency: str) -> None:
    money = Money(amount, currency)
    assert parse_typed(typed(money), currency) == parse_typed(typed(money).replace(",", ""), currency) == money


@pytest.mark.parametrize("currency", ["KRW", "USD", "KWD"])
@pytest.mark.parametrize(
    "text",
    [
        "", " 12 ", "12 ", "12\n", "\uff11\uff12\uff10\uff10", "٣", "-1", "+1", "\u22121", "01", "00", "1e3", "0x1", "1_000", "NaN",
        "1,2,3", "1,00", ",100", "1000,000", "1.200.000", "1 000", ".5", "1.", "1..5", "1.5,0", "0.0001", "1,200원", "₩1", "$1",
        "9" * 16, "1" + ",000" * 5, "1" + ",000" * 2000,
    ],
)  # fmt: skip
def test_what_nobody_writes_as_an_amount_is_bad_input(text: str, currency: str) -> None:
    with pytest.raises(BadInput):
        parse_typed(text, currency)


@pytest.mark.parametrize(("text", "currency"), [("1.0", "KRW"), ("0.001", "USD"), ("9" * 15, "USD"), ("9" * 13 + ".999", "KWD")])
def test_an_amount_that_its_currency_does_not_have_is_bad_input(text: str, currency: str) -> None:
    with pytest.raises(BadInput):
        parse_typed(text, currency)


@pytest.mark.parametrize(("amount", "currency"), [("0", "KRW"), ("1", "XXX"), ("1", "krw"), ("1", None), (1, "KRW"), ("1", ["KRW"])])
def test_money_is_above_zero_in_a_known_currency(amount: object, currency: object) -> None:
    with pytest.raises(BadInput):
        parse_money(amount, currency)


@pytest.mark.parametrize(("amount", "currency"), [(-1, "KRW"), (AMOUNT_MAX + 1, "KRW"), (1, "XXX")])
def test_money_cannot_be_made_outside_its_bounds(amount: int, currency: str) -> None:
    with pytest.raises(BadInput):
        Money(amount, currency)


@given(st.binary(max_size=200))
def test_base64url_comes_back(data: bytes) -> None:
    assert ids.decode_base64url(ids.encode_base64url(data)) == data


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=5))
def test_digests_are_written_together_as_one_by_one(digests: list[bytes]) -> None:
    assert ids.encode_digests(digests) == [ids.encode_base64url(digest) for digest in digests]


@given(st.text(alphabet=st.sampled_from("AQgwZz09-_=+/ \n"), max_size=12))
def test_base64url_has_one_spelling(text: str) -> None:
    try:
        assert ids.encode_base64url(ids.decode_base64url(text)) == text
    except BadInput:
        pass
    else:
        assert set(text) <= set("AQgwZz09-_")


@pytest.mark.parametrize("at", [0, 1_795_000_000, (1 << 29) - 1, 1 << 29, 1 << 40])
def test_tokens_of_a_time_stand_together_and_differ(at: int) -> None:
    made = {ids.new_token_of(at) for _ in range(1_000)}
    assert len(made) == 1_000
    assert len({token[:4] for token in made}) == 1
    assert {token[:4] for token in made} != {ids.new_token_of(at + 64)[:4]}
    assert all(ids.TOKEN.fullmatch(token) and not token.startswith("-") and len(ids.decode_base64url(token)) == 16 for token in made)


def test_new_tokens_differ_and_meet_their_grammar() -> None:
    made = {ids.new_token() for _ in range(1_000)}
    assert not any(token.startswith("-") for token in made)
    assert len(made) == 1_000
    assert all(ids.TOKEN.fullmatch(token) and ids.TID.fullmatch(token) for token in made)
    assert ids.DIGEST.fullmatch(ids.digest(b""))


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a" * 33, "a b", "é", None, 5])
def test_a_party_has_a_partys_name(name: object) -> None:
    with pytest.raises(BadInput):
        ids.check(ids.PARTY_ID, name, "name")


def test_urns_name_operator_role_and_party() -> None:
    assert (ids.urn("bank", "gateway"), ids.urn("bank", "merchant", "shop")) == ("urn:hanbit:bank:gateway", "urn:hanbit:bank:merchant:shop")


def test_a_manual_clock_moves_when_it_is_moved() -> None:
    clock = ManualClock(100)
    clock.advance(5)
    assert (clock.now(), clock.monotonic()) == (105, 105.0)
    clock.advance(-10)
    assert clock.now() == 95


def test_the_systems_clock_gives_whole_seconds_and_a_counter_that_never_goes_back() -> None:
    clock = SystemClock()
    assert isinstance(clock.now(), int)
    assert clock.monotonic() <= clock.monotonic()


def test_errors_say_who_must_act() -> None:
    assert str(Unavailable()) == "unavailable"
    assert str(BadInput("amount")) == "bad_input: amount"
    assert str(ProtocolViolation("aud", "me")) == "aud: me"
    assert str(ProtocolViolation("aud")) == "aud"
    assert Declined("no_funds").reason == "no_funds"
    assert TooManyTries(retry_after_s=3).retry_after_s == 3
    assert Unavailable(retry_after_s=9).retry_after_s == 9
    ours = [kind for kind in HanbitError.__subclasses__() if kind.__module__ == HanbitError.__module__]
    assert all(kind.status < 500 or kind is Unavailable for kind in ours)
