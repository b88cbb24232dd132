"""`hanbit wallet` as a person or a script uses it: what it prints, what it asks, and where no secret may stand."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from hanbit.cli.paying import format_money
from hanbit.cli.wallet import wallet
from hanbit.kernel.money import Money
from hanbit.wallet.store import Store, thumbprint
from tests.unit.wallet.parties import Operator
from tests.unit.wallet.server import PAYMENT, Server, listening_apart, problem

NOW = int(time.time())
BANK = Operator.found("bank", NOW - 3600)


@pytest.fixture
def server() -> Iterator[Server]:
    with listening_apart(Server(BANK, at=NOW)) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.der"
    path.write_bytes(BANK.root)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store(tmp_path / "wallet")
    store.trust(BANK.root, NOW)
    return store.folder


def run(folder: Path, *arguments: str, answers: tuple[str, ...] | None = None, typed: str | None = None) -> Result:
    """Answers come through a pipe, as from a script; `typed` is what a person types."""
    extra: list[str] = []
    if answers is not None:
        reading, writing = os.pipe()
        os.write(writing, "".join(f"{answer}\n" for answer in answers).encode())
        os.close(writing)
        extra = ["--answers-fd", str(reading)]
    return CliRunner().invoke(wallet, [*arguments, *extra, "--wallet", str(folder)], input=typed)


@pytest.mark.parametrize("command", [(), ("trust",), ("enrol",), ("pay",), ("buy",), ("show",)])
def test_every_command_has_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(wallet, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example:\n    hanbit wallet" in result.output


def test_trust_shows_the_thumbprint_and_asks(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    result = run(folder, "trust", str(root), typed="n\n")
    assert thumbprint(BANK.root) in result.output
    assert result.exit_code == 1
    assert Store(folder).operators() == ()
    assert run(folder, "trust", str(root), typed="y\n").exit_code == 0
    assert Store(folder).operators() == ("bank",)


def test_trust_refuses_another_root_of_the_same_name(folder: Path, tmp_path: Path) -> None:
    false = tmp_path / "false.der"
    false.write_bytes(Operator.found("bank", NOW).root)
    result = run(folder, "trust", str(false), "--yes")
    assert result.exit_code == 1
    assert "trusted already" in result.output
    assert Store(folder).pin("bank").root == BANK.root


def test_trust_refuses_what_is_no_root(folder: Path, tmp_path: Path) -> None:
    leaf = tmp_path / "leaf.der"
    leaf.write_bytes(BANK.seal)
    result = run(folder, "trust", str(leaf), "--yes")
    assert result.exit_code == 1
    assert "not the root certificate" in result.output


def test_enrol_then_pay_with_the_device_by_script(folder: Path, server: Server) -> None:
    enrolled = run(folder, "enrol", server.origin, answers=("one-time-code",))
    assert enrolled.exit_code == 0, enrolled.output
    assert "urn:hanbit:bank:customer:hong" in enrolled.output
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", "--yes", "--json", answers=("login password",))
    assert result.exit_code == 0, result.output
    facts = msgspec.json.decode(result.stdout)
    assert facts["state"] == "captured"
    assert facts["receipt"] == str(folder / "bank" / "receipts" / f"{PAYMENT}.jose")
    assert Path(facts["receipt"]).read_text().count(".") == 2
    assert server.instructions[0].auth.method == "device"
    shown = run(folder, "show").output
    assert "urn:hanbit:bank:customer:hong" in shown
    assert PAYMENT in shown


def test_person_sees_payee_and_amount_before_anything_is_asked(folder: Path, server: Server) -> None:
    result = run(folder, "pay", server.url, typed="hong\nlogin password\n2\ny\naccount password\n")
    assert result.exit_code == 0, result.output
    for words in ("220,000 KRW", "Hanbit Books", "bank at http://pay.localhost", "verified"):
        assert -1 < result.output.index(words) < result.output.index("Login ID")


def test_typed_secrets_are_not_echoed(folder: Path, server: Server) -> None:
    result = run(folder, "pay", server.url, typed="hong\nlogin password\n9876\ny\naccount password\n")
    assert result.exit_code == 0, result.output
    assert "login password" not in result.output
    assert "account password" not in result.output
    assert server.instructions[0].core.account == "a2"
    assert server.instructions[0].auth.value == "account password"


def test_typed_number_is_hidden_and_sealed(folder: Path, server: Server) -> None:
    answers = ("login password", "1234 5678-9012 3456", "2468")
    result = run(folder, "pay", server.url, "--id", "hong", "--type-number", "--yes", answers=answers)
    assert result.exit_code == 0, result.output
    assert server.instructions[0].number == "1234567890123456"
    assert "1234" not in result.output.replace(PAYMENT, "")


def test_code_factor_uses_the_enrolled_secret(folder: Path, server: Server) -> None:
    run(folder, "enrol", server.origin, answers=("one-time-code",))
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", "--factor", "code", "--yes", answers=("login password",))
    assert result.exit_code == 0, result.output
    assert server.instructions[0].auth.method == "code"


def test_no_at_the_question_pays_nothing(folder: Path, server: Server) -> None:
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", typed="login password\nn\n")
    assert result.exit_code == 1
    assert "Nothing was paid" in result.output
    assert server.instructions == []


@pytest.mark.parametrize("account", ["0", "3", "999", "nothing", "*"])
def test_account_that_is_none_of_the_customers(folder: Path, server: Server, account: str) -> None:
    result = run(folder, "pay", server.url, "--id", "hong", "--account", account, "--yes", answers=("login password",))
    assert result.exit_code == 1
    assert server.instructions == []


def test_decline_says_that_no_money_was_taken_and_what_to_do(folder: Path, server: Server) -> None:
    server.states, server.reason = ["open"], "no_funds"
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", "--yes", answers=("login password", "2468"))
    assert result.exit_code == 1
    assert "not enough money" in result.output
    assert "No money has been taken" in result.output


def test_refusal_by_the_shop(folder: Path, server: Server) -> None:
    server.states, server.reason = ["refused"], "order_changed"
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", "--yes", answers=("login password", "2468"))
    assert result.exit_code == 1
    assert "order changed" in result.output


def test_receipt_that_is_not_genuine_is_an_alarm_and_not_a_decline(folder: Path, server: Server) -> None:
    server.receipt_changes = {"amount": "1"}
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", "--yes", answers=("login password", "2468"))
    assert result.exit_code == 3
    assert "Do not pay again" in result.output
    assert not list(folder.rglob("*.jose"))


def test_false_page_is_stopped_before_any_question(folder: Path, server: Server) -> None:
    result = run(folder, "pay", server.url.replace("AMOUNT=220000", "AMOUNT=1"), "--id", "hong", answers=("login password",))
    assert result.exit_code == 1
    assert "before anything was sent" in result.output
    assert server.received == []


def test_operator_that_is_not_trusted(tmp_path: Path, server: Server) -> None:
    result = run(tmp_path / "empty", "pay", server.url, answers=("login password",))
    assert result.exit_code == 1
    assert "wallet trust" in result.output
    assert server.received == []


def test_factor_that_needs_an_enrolment(folder: Path, server: Server) -> None:
    result = run(folder, "pay", server.url, "--factor", "device", answers=())
    assert "hanbit wallet enrol" in result.output
    assert server.received == []


@pytest.mark.parametrize(
    ("path", "answer", "code", "words"),
    [
        ("/pay/login", problem(401, "login_failed", "ID or password is wrong.", reference="r-1"), 1, "reference r-1"),
        ("/pay/login", problem(429, "too_many_tries", "Wait.", {"Retry-After": "30"}), 1, "30 seconds"),
        ("/pay", problem(503, "unavailable", "The line to the shop is down."), 3, "never made twice"),
        ("/pay", problem(409, "wrong_state", "Already paid.", advice="View the receipt."), 1, "View the receipt"),
    ],
)
def test_every_refusal_says_the_next_step(folder: Path, server: Server, path: str, answer: Any, code: int, words: str) -> None:
    server.instead[path] = answer
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", "--yes", answers=("login password", "2468"))
    assert result.exit_code == code, result.output
    assert words in result.output


@pytest.mark.parametrize("answers", [(), ("",), ("login password",), ("x" * 5000,)])
def test_missing_answer_is_told(folder: Path, server: Server, answers: tuple[str, ...]) -> None:
    result = run(folder, "pay", server.url, "--id", "hong", "--account", "1", "--yes", answers=answers)
    assert result.exit_code == 1
    assert "--answers-fd" in result.output


def test_descriptor_that_is_not_open_is_told(folder: Path) -> None:
    result = CliRunner().invoke(wallet, ["enrol", "https://pay.example", "--answers-fd", "999", "--wallet", str(folder)])
    assert result.exit_code == 1
    assert "--answers-fd" in result.output


def test_empty_wallet_says_how_to_begin(tmp_path: Path) -> None:
    assert "hanbit wallet trust ROOT" in run(tmp_path / "none", "show").output


def test_no_option_takes_a_secret() -> None:
    names = {option.name or "" for command in wallet.commands.values() for option in command.params}
    assert not [name for name in names if any(word in name for word in ("password", "secret", "code", "pin"))]


@pytest.mark.parametrize(
    ("amount", "text"),
    [(Money(220_000, "KRW"), "220,000 KRW"), (Money(5, "USD"), "0.05 USD"), (Money(123_456_789, "KWD"), "123,456.789 KWD")],
)
def test_amounts_are_printed_as_the_currency_has_them(amount: Money, text: str) -> None:
    assert format_money(amount) == text
