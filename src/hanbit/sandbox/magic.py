"""Everything that does something on purpose in a sandbox: customers, accounts, amounts. Docs, pages and commands are drawn from it.

Customers and accounts are ordinary rows, which the ordinary code judges. An amount decides what becomes of its messages on their way.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Language = Literal["ko", "en"]


@dataclass(frozen=True, slots=True)
class Words:
    """What a row does, in each language."""

    ko: str
    en: str


@dataclass(frozen=True, slots=True)
class Person:
    """A sample customer; the password is printed, for it is worth nothing."""

    login: str
    name: str
    password: str
    does: Words
    suspended: bool = False
    waits: bool = False
    """Whether his log-in waits, as after many wrong passwords."""


@dataclass(frozen=True, slots=True)
class Account:
    """A sample account; figures are minor units of the operator's currency."""

    login: str
    kind: str
    number: str
    password: str
    does: Words
    balance: int = 0
    credit_limit: int = 0
    suspended: bool = False


PAYER: Final = "payer"
"""The customer with whom everything goes well."""
PEOPLE: Final = (
    Person(PAYER, "김시험", "sandbox-login-1", Words("정상 로그인", "logs in")),
    Person(
        "suspended", "이정지", "sandbox-login-2", Words("정지된 고객: 결제 거절", "is suspended: every payment is declined"), suspended=True
    ),
    Person(
        "waiting",
        "박대기",
        "sandbox-login-3",
        Words(
            "로그인이 늘 대기 중(비밀번호를 여러 번 틀린 상태)", "always has to wait before he can log in, as after many wrong passwords"
        ),
        waits=True,
    ),
)
ACCOUNTS: Final = (
    Account(PAYER, "bank", "11000000000001", "account-1", Words("잔액 충분", "enough money"), balance=1_000_000_000),
    Account(PAYER, "card", "4000000000000002", "account-2", Words("한도 충분", "enough of a credit line"), credit_limit=100_000_000),
    Account(PAYER, "emoney", "7700000000003", "account-3", Words("300,000 (최소 단위)", "300,000 minor units"), balance=300_000),
    Account(PAYER, "bank", "11000000000004", "account-4", Words("잔액 없음: 거절", "no funds: declined")),
    Account(
        PAYER, "bank", "11000000000005", "account-5", Words("정지된 계좌: 거절", "suspended: declined"), balance=1_000_000, suspended=True
    ),
    Account(
        "suspended", "bank", "11000000000006", "account-6", Words("정지된 고객의 계좌", "of the suspended customer"), balance=1_000_000
    ),
    Account(
        "waiting", "bank", "11000000000007", "account-7", Words("대기 중인 고객의 계좌", "of the customer who waits"), balance=1_000_000
    ),
)


class Trick(StrEnum):
    """What becomes of the messages about an amount."""

    SLOW_SHOP = "slow_shop"
    LOST_ANSWER = "lost_answer"
    MISMATCH = "mismatch"
    LINE_DOWN = "line_down"
    TOLD_TWICE = "told_twice"
    TOLD_LATE = "told_late"


SLOW_S: Final = 6
"""Longer than the page waits (`notice_wait_s`)."""
LATE_S: Final = 30


@dataclass(frozen=True, slots=True)
class Amount:
    """The last three digits of an amount in minor units, and what they do."""

    ending: str
    trick: Trick
    does: Words


AMOUNTS: Final = (
    Amount(
        "001",
        Trick.SLOW_SHOP,
        Words(
            f"느린 상점: 지불통지가 {SLOW_S}초 뒤에야 상점에 닿고, 결제 화면은 먼저 '처리 중'이라고 합니다",
            f"slow shop: the notice reaches the shop only after {SLOW_S} s, and the page says “in progress” first",
        ),
    ),
    Amount(
        "002",
        Trick.LOST_ANSWER,
        Words(
            "잃어버린 응답: 상점의 첫 응답을 버립니다. 복구가 같은 통지로 다시 묻습니다",
            "lost answer: the shop's first answer is thrown away; recovery asks again with the same bytes",
        ),
    ),
    Amount(
        "003",
        Trick.MISMATCH,
        Words(
            "금액 불일치: 브라우저가 결제 주소를 열 때 AMOUNT가 10분의 1로 바뀝니다. 평문 주문이면 상점이 비교하고 거부하며,"
            " 서명된 주문이면 로그인 전에 멈춥니다",
            "mismatch: AMOUNT becomes a tenth on its way from the shop to the payment page. A plain order is then refused by the shop,"
            " which compares; a signed one is stopped before the log-in",
        ),
    ),
    Amount(
        "004",
        Trick.LINE_DOWN,
        Words(
            "회선 단절: 이 결제의 통지는 상점에 닿지 않습니다. 10분 뒤(시계 +15m) 보류가 풀립니다",
            "line down: no notice of this payment reaches the shop; its hold ends after ten minutes (clock +15m)",
        ),
    ),
    Amount(
        "005",
        Trick.TOLD_TWICE,
        Words("결과를 두 번 알립니다. 한 번만 처리해야 합니다", "the outcome is told twice: act on it once"),
    ),
    Amount(
        "006",
        Trick.TOLD_LATE,
        Words(f"결과를 {LATE_S}초 뒤에야 알립니다", f"the outcome is told only after {LATE_S} s"),
    ),
)
WRONG_PASSWORD: Final = Words(
    "다른 모든 비밀번호: 틀린 것입니다. 다섯 번 뒤에는 기다립니다", "any other password: wrong, and after five of them it waits"
)


def trick_of(amount: str) -> Trick | None:
    """What this amount does, by its last three digits."""
    return next((row.trick for row in AMOUNTS if amount.endswith(row.ending)), None)


def altered(amount: str) -> str:
    """The amount that somebody on the way makes of one that ends in 003: a tenth of it, which does nothing by itself."""
    return amount[:-1]


def as_json() -> dict[str, object]:
    """The whole table, for programs."""
    return {
        "customers": [
            {"login": person.login, "password": person.password, "does": {"ko": person.does.ko, "en": person.does.en}} for person in PEOPLE
        ],
        "accounts": [
            {
                "login": account.login,
                "kind": account.kind,
                "number": account.number,
                "password": account.password,
                "does": {"ko": account.does.ko, "en": account.does.en},
            }
            for account in ACCOUNTS
        ],
        "amounts": [{"ending": row.ending, "trick": row.trick.value, "does": {"ko": row.does.ko, "en": row.does.en}} for row in AMOUNTS],
    }
