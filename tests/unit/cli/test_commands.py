"""Every command: help with an example, errors in one or two lines with an advice, JSON alone with `--json`, no secret as an argument."""

import json
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hanbit.cli import COMMANDS, main
from hanbit.web.serving import bind
from tests.unit.cli.world import CARD, PASSWORD, copy_of, installed, run, run_json, told

HEAVY = {
    "aiohttp",
    "argon2",
    "cryptography",
    "jinja2",
    "msgspec",
    "picows",
    "pysqlite3",
    "rich",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "webauthn",
}
SHOP = ("--name", "x", "--telephone", "02-555-0100", "--return-url", "https://shop.example/")
SECRETS = ("password", "passphrase", "secret", "number", "code", "token")


def every_command(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The whole tree."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=" ".join(("hanbit", *path)))
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            yield from every_command(below, (*path, name))


def test_every_command_has_help_with_an_example() -> None:
    """Walks the whole tree: a command that is added without one fails here."""
    seen = 0
    for path, command in every_command():
        result = run(*path, "--help")
        assert result.exit_code == 0, (path, result.output)
        for name in command.commands if isinstance(command, click.Group) else ():
            assert re.search(rf"^  {name}  ", result.stdout, re.MULTILINE), f"{path} does not list {name}"
        assert "Example:" in result.stdout, path
        assert f"hanbit {' '.join(path)}".rstrip() in result.stdout.partition("Example:")[2], f"the example of {path} shows another command"
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, (path, parameter.name)
        seen += 1
    assert seen > 25


def test_no_secret_is_an_argument() -> None:
    """Other users of the machine can read arguments: secrets come from a hidden prompt or a file descriptor."""
    for path, command in every_command():
        for parameter in command.params:
            name = parameter.name or ""
            secret = (
                any(word in name for word in SECRETS) and not name.endswith(("_fd", "_id")) and not getattr(parameter, "is_flag", False)
            )
            assert not secret, f"hanbit {' '.join(path)}: {name}"


def test_the_list_of_commands_imports_nothing_of_them() -> None:
    """`hanbit --help` is there at once, also where only the shop's half is installed."""
    code = f"import sys; from hanbit.cli import main; main(['--help'], standalone_mode=False); sys.exit(bool({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    for name, place in COMMANDS.items():
        assert name.encode() in result.stdout
        assert place.short_help.encode() in result.stdout


def test_a_command_without_its_extra_says_which_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    what, advice = told(run("serve", "--data", tmp_path))
    assert what == "Error: uvloop is not installed."
    assert advice == "Run: pip install 'hanbit[server]'"


def test_hanbit_refuses_to_run_without_its_asserts(tmp_path: Path) -> None:
    """`python -O` would skip checks; PYTHONOPTIMIZE is the same by the environment."""
    by_flag = subprocess.run([sys.executable, "-O", "-m", "hanbit", "init", str(tmp_path / "data")], capture_output=True, check=False)
    by_environment = installed("--help", env={"PYTHONOPTIMIZE": "1"})
    for result in (by_flag, by_environment):
        assert result.returncode == 2
        assert result.stdout == b""
        assert b"does not run under python -O" in result.stderr
        assert len(result.stderr.splitlines()) == 2
    assert not (tmp_path / "data").exists()


def test_a_bug_of_ours_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch, pristine: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("hanbit.cli.parties.operate", broken)
    what, advice = told(run("customer", "list", "--data", pristine))
    assert what == "Error: ZeroDivisionError: a bug"
    assert "HANBIT_TRACEBACK=1" in advice
    monkeypatch.setenv("HANBIT_TRACEBACK", "1")
    assert isinstance(run("customer", "list", "--data", pristine).exception, ZeroDivisionError)


def test_an_unknown_command_says_so() -> None:
    assert told(run("pay")) == ["Error: No such command 'pay'."]
    assert told(run("customer", "pay")) == ["Error: No such command 'pay'."]


@pytest.fixture(params=["by itself", "through the server"])
def data(request: pytest.FixtureRequest, pristine: Path, tmp_path: Path) -> Path:
    """A folder that nobody holds, and one that a server holds: the commands do not differ."""
    if request.param == "by itself":
        return copy_of(pristine, tmp_path / "data")
    held: Path = request.getfixturevalue("served")
    return held


def test_an_operators_first_day(data: Path) -> None:
    """Customer, accounts, money, merchant, suspended and active again; each the same with and without a server."""
    some = secrets.token_hex(4)
    login, shop, number = f"h{some}", f"s{some}", f"11{int(some, 16):010}"
    made = run_json("customer", "create", login, "--name", "홍길동", "--password-fd", "0", "--data", data, answers=f"{PASSWORD}\n")
    assert made["login"] == login
    account = run_json(
        "account", "create", login, "bank", "--number-fd", "0", "--password-fd", "0", "--data", data, answers=f"{number}\n2580\n"
    )
    assert account["masked"] == "*" * 8 + number[-4:]
    funded = run_json("account", "fund", account["account"], "500000", "--id", f"salary-{login}", "--data", data)
    assert funded == run_json("account", "fund", account["account"], "500000", "--id", f"salary-{login}", "--data", data)
    reserved = run_json("ledger", "fund-reserve", "70000", "--id", f"reserve-{login}", "--data", data)
    assert reserved == run_json("ledger", "fund-reserve", "70000", "--id", f"reserve-{login}", "--data", data)
    assert {"currency": "KRW", "available": 70_000} in run_json("ledger", "reserve", "--data", data)["reserve"]
    listed = {row["id"]: row for row in run_json("account", "list", "--data", data)["accounts"]}
    assert listed[account["account"]]["balance"] == 500_000
    code = run_json("customer", "enrol-code", login, "--data", data)
    assert code["for"].endswith(made["customer"])
    registered = run_json(
        "merchant",
        "create",
        shop,
        "--name",
        "책방",
        "--telephone",
        "02-555-0100",
        "--return-url",
        "https://shop.example/return",
        "--data",
        data,
    )
    assert set(registered) == {"merchant", "code", "pin"}
    assert run_json("merchant", "enrol-code", shop, "--data", data)["pin"] == registered["pin"]
    told_to_post = run_json("merchant", "line", shop, "--post-url", f"https://{shop}.example/line", "--reason", "asked", "--data", data)
    assert (told_to_post["mode"], told_to_post["post_url"]) == ("vpn", f"https://{shop}.example/line")
    assert json.loads(told_to_post["dials"])["port"]
    assert run_json("merchant", "line", shop, "--post-url", "none", "--data", data)["post_url"] is None
    (its_line,) = [row for row in run_json("merchant", "lines", "--data", data)["lines"] if row["merchant"] == shop]
    assert (its_line["mode"], its_line["line"], its_line["connections"], its_line["post"]) == ("vpn", "down", 0, None)
    for group, name in (("customer", login), ("account", account["account"]), ("merchant", shop)):
        assert run_json(group, "suspend", name, "--reason", "a test", "--data", data)["state"] == "suspended"
        assert run_json(group, "resume", name, "--data", data)["state"] == "active"
    kid = run_json("merchant", "certificates", "--data", data)["certificates"][0]["kid"]
    assert kid
    statement = run_json("ledger", "statement", account["account"], "--data", data)
    assert [line["balance"] for line in statement["lines"]] == [500_000]
    assert run_json("ledger", "check", "--data", data)["balanced"] is True
    assert run_json("merchant", "fees", shop, "--basis-points", "250", "--fixed", "100", "--data", data)["basis_points"] == 250
    limited = run_json("merchant", "limits", shop, "--payment", "300000", "--day", "900000", "--reason", "a test", "--data", data)
    assert (limited["payment"], limited["day"]) == (300_000, 900_000)
    limited = run_json("merchant", "limits", shop, "--day", "none", "--reason", "a test", "--data", data)
    assert (limited["payment"], limited["day"]) == (300_000, None)
    own = ("account", "limits", account["account"])
    assert run_json(*own, "--payment", "5000", "--reason", "a test", "--data", data)["payment"] == 5_000
    kept = run_json(*own, "--day", "9000", "--reason", "a test", "--data", data)
    assert (kept["payment"], kept["day"]) == (5_000, 9_000)
    assert run_json(*own, "--payment", "none", "--reason", "a test", "--data", data)["payment"] is None
    shown = run_json("brand", "set", "--name-en", f"Bank of {login}", "--reason", "a test", "--data", data)
    assert shown["name_en"] == f"Bank of {login}"
    assert run_json("brand", "show", "--data", data) == shown
    paid_to = run_json("merchant", "payout-account", shop, "--bank", "은행", "--number-fd", "0", "--data", data, answers="110-123-456789\n")
    assert paid_to["account"] == "은행 ********6789"
    assert run_json("day", "close", "--data", data) == {"closed": []}
    assert run_json("day", "statements", shop, "--data", data) == {"statements": []}
    assert all(row["balanced"] for row in run_json("day", "trial-balance", "--data", data)["sums"])
    assert run_json("payout", "list", "--data", data) == {"payouts": []}
    assert run_json("payout", "instructions", "--data", data) == {"instructions": []}
    journal = run("ledger", "export", "-", "--format", "hledger", "--data", data).stdout
    assert f"id:fund:salary-{login}\n" in journal
    text = run("customer", "list", "--data", data)
    assert "홍길동" in text.stdout
    assert text.stderr == ""


def test_what_is_refused_is_told_in_two_lines_and_changes_nothing(data: Path) -> None:
    before = run_json("ledger", "check", "--data", data)
    refused: list[tuple[tuple[str, ...], str, str]] = [
        (("customer", "enrol-code", "nobody"), "", "customer nobody"),
        (("customer", "suspend", "nobody"), "", "customer nobody"),
        (("account", "fund", "nobody", "1000"), "", "account nobody"),
        (("account", "suspend", "nobody"), "", "account nobody"),
        (("account", "create", "nobody", "bank", "--number-fd", "0", "--password-fd", "0"), "110000000000\n2580\n", "customer nobody"),
        (("merchant", "enrol-code", "nobody"), "", "merchant nobody"),
        (("merchant", "suspend", "nobody", "--reason", "x"), "", "merchant nobody"),
        (("merchant", "revoke", "nothing"), "", "certificate nothing"),
        (("merchant", "line", "nobody"), "", "merchant nobody"),
        (("merchant", "create", "x", *SHOP, "--line", "leased"), "", "pinned by the merchant's address"),
        (("merchant", "create", "x", *SHOP, "--line", "leased", "--line-address", "10.0.0.2"), "", "leased lines are off here"),
        (("merchant", "create", "x", *SHOP, "--line-address", "10.0.0.2"), "", "pinned by the merchant's address"),
        (("merchant", "create", "x", *SHOP, "--post-url", "http://x.example/"), "", "post address"),
        (("customer", "create", "a b", "--name", "x", "--password-fd", "0"), "password\n", "login: 1 to 64"),
        (("customer", "create", "ab", "--name", " ", "--password-fd", "0"), "password\n", "name: 1 to 60"),
        (("customer", "create", "ab", "--name", "x\u202ey\n", "--password-fd", "0"), "password\n", "name: 1 to 60"),
        (("customer", "create", "ab", "--name", "x", "--password-fd", "0"), "p" * 129 + "\n", "a log-in password has 8 to 128"),
        (("ledger", "statement", "nobody"), "", "no ledger account nobody"),
        (("day", "close", "--through", "2099-01-01"), "", "2099-01-01 has not ended"),
        (("day", "show", "2027-01-01"), "", "no day 2027-01-01"),
        (("day", "show", "x"), "", "day: YYYY-MM-DD"),
        (("day", "statements", "nobody"), "", "no merchant nobody"),
        (("payout", "confirm", "0000-0000"), "", "no payout 0000-0000"),
        (("payout", "fail", "0000-0000", "--reason", "x"), "", "no payout 0000-0000"),
        (("merchant", "fees", "nobody", "--basis-points", "1"), "", "no merchant nobody"),
        (("merchant", "payout-account", "nobody", "--bank", "x", "--number-fd", "0"), "123456\n", "no merchant nobody"),
        (("ledger", "export", "x.journal", "--format", "hledger", "--from", "1.1.2027"), "", "day: YYYY-MM-DD"),
        (("ledger", "fund-reserve", "0"), "", "amount"),
        (("ledger", "fund-reserve", "5", "--currency", "XXX"), "", "currency"),
        (("payment", "allow-refund", "shop", "T" * 22, "--until", "2099-01-01", "--reason", "x"), "", "payment shop"),
    ]
    shop = ("--name", "x", "--telephone", "02-555-0100", "--return-url")
    refused += [
        (("merchant", "create", "x", *shop, url), "", "return address")
        for url in (
            "javascript:alert(1)",
            "http://shop.example/",
            "https://user@shop.example/",
            "https://shop.example\\@evil.example/",
            "https://shop.example/\r\nSet-Cookie:a=b",
            "https://söhne.example/",
            "https://shop.example./",
            "https://shop.example:99999/",
            "https:///x",
            "//shop.example/",
            "https://shop.example/#x",
            "https://" + "a" * 600,
        )
    ]
    refused += [
        (("merchant", "create", name, *shop, "https://shop.example/"), "", "merchant id")
        for name in ("A", "a_b", "a" * 33, "가", "a-", "a ", "a\n")
    ]
    for arguments, answers, expected in refused:
        lines = told(run(*arguments, "--data", data, answers=answers))
        assert expected in lines[0], (arguments, lines)
        assert len(lines) == 2, (arguments, lines)
    assert run_json("ledger", "check", "--data", data) == before


def test_a_banks_file_that_differs_is_told_by_the_exit_status(pristine: Path, tmp_path: Path) -> None:
    file = tmp_path / "bank.csv"
    file.write_text("\ufeffreference,amount,currency,note\n0000-0000,5000,KRW,=1+1\n", "utf-8")
    done = run("payout", "import", str(file), "--json", "--data", pristine)
    assert (done.exit_code, json.loads(done.stdout)["differs"][0]["reference"]) == (1, "0000-0000")
    for text in ("a,b\n1,2\n", 'reference,amount,currency\n"x', "\0"):
        file.write_text(text)
        assert run("payout", "import", str(file), "--data", pristine).exit_code in (0, 1)
    file.write_text("a,b\n1,2\n")
    assert "reference" in told(run("payout", "import", str(file), "--data", pristine))[0]


def test_a_journal_never_overwrites_a_file(pristine: Path, tmp_path: Path) -> None:
    """Nor is one written of days that end before they begin."""
    there = tmp_path / "2027.journal"
    there.write_text("mine")
    lines = told(run("ledger", "export", str(there), "--format", "beancount", "--data", pristine))
    assert lines == [f"Error: {there} exists", "Name a new file, or move that one away."]
    assert there.read_text() == "mine"
    backwards = run("ledger", "export", "-", "--format", "hledger", "--from", "2027-02-01", "--to", "2027-01-01", "--data", pristine)
    assert (backwards.exit_code, backwards.stdout) == (2, "")
    fresh = tmp_path / "fresh.beancount"
    assert run("ledger", "export", str(fresh), "--format", "beancount", "--data", pristine).exit_code == 0
    assert fresh.stat().st_mode & 0o777 == 0o600


def test_amounts_have_one_spelling_on_the_command_line_too(pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    run_json("customer", "create", "hong", "--name", "홍길동", "--password-fd", "0", "--data", data, answers="password\n")
    card = run_json(
        "account", "create", "hong", "card", "--number-fd", "0", "--password-fd", "0", "--data", data, answers=f"{CARD}\n1234\n"
    )
    for amount in ("\uff11\uff12\uff10\uff10", " 12_00 ", "٣", "0", "1e3", "1" * 16, "01", "+5", "1.5", "1,000", ""):
        assert told(run("account", "fund", card["account"], amount, "--data", data))[0].startswith("Error: amount: a whole number"), amount
        if amount not in {"", "0"}:
            more = ("account", "create", "hong", "card", "--credit-limit", amount, "--number-fd", "0", "--password-fd", "0", "--data", data)
            assert told(run(*more, answers="4111111111111111\n1234\n"))[0].startswith("Error: amount: a whole number"), amount
    assert told(run("account", "fund", card["account"], "-5", "--data", data)) == ["Error: No such option '-5'."]
    for number in (
        "4000001234567890",
        "40000012345678",
        "\uff14\uff10\uff10\uff10\uff10\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff19",
        "4000001234567899x",
        "4000001234567899\x00",
        "",
    ):
        answers = f"{number}\n1234\n"
        assert run(
            "account", "create", "hong", "card", "--number-fd", "0", "--password-fd", "0", "--data", data, answers=answers
        ).exit_code, number
    assert run_json("ledger", "check", "--data", data)["entries"] == 0


def test_the_same_id_with_other_content_is_refused(pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    run_json("customer", "create", "hong", "--name", "홍길동", "--password-fd", "0", "--data", data, answers="password\n")
    again = run("customer", "create", "hong", "--name", "홍길동", "--password-fd", "0", "--data", data, answers="password\n")
    assert told(again)[0] == "Error: login hong exists"
    made = run_json(
        "account", "create", "hong", "card", "--number-fd", "0", "--password-fd", "0", "--data", data, answers=f"{CARD}\n1234\n"
    )
    twice = run("account", "create", "hong", "card", "--number-fd", "0", "--password-fd", "0", "--data", data, answers=f"{CARD}\n1234\n")
    assert told(twice)[0] == "Error: an account with this number exists"
    run_json("account", "fund", made["account"], "1000", "--id", "a", "--data", data)
    assert "has other content" in told(run("account", "fund", made["account"], "1001", "--id", "a", "--data", data))[0]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [(b"", "nothing was written"), (b"\n", "nothing was written"), (b"x" * 5000, "at most 1024 bytes"), (b"\xff\xfe\n", "not UTF-8")],
)
def test_a_secret_from_a_descriptor_is_bounded_text(pristine: Path, answers: bytes, expected: str) -> None:
    result = installed("customer", "create", "x", "--name", "x", "--password-fd", "0", "--data", pristine, answers=answers)
    assert result.returncode == 2
    assert expected in result.stderr.decode()
    assert b"Traceback" not in result.stderr


def test_without_a_terminal_nothing_is_asked_and_closed_descriptors_are_named(pristine: Path) -> None:
    no_terminal = installed("account", "create", "x", "bank", "--data", pristine)
    assert no_terminal.returncode == 2
    assert b"pass --number-fd 0" in no_terminal.stderr
    closed = installed("account", "create", "x", "bank", "--number-fd", "77", "--data", pristine)
    assert closed.returncode == 2
    assert b"--number-fd 77: Bad file descriptor" in closed.stderr


def test_a_folder_that_is_none_stays_as_it_is(tmp_path: Path) -> None:
    """No command leaves a lock file in somebody's home."""
    (tmp_path / "letter").write_text("dear")
    for arguments in (
        ("customer", "list"),
        ("account", "list"),
        ("merchant", "list"),
        ("ledger", "check"),
        ("ledger", "statement", "x"),
    ):
        for place in (tmp_path, tmp_path / "nowhere"):
            assert "missing" in told(run(*arguments, "--data", place))[0], arguments
    for place in (tmp_path, tmp_path / "nowhere"):  # a process of its own: a server sets up the log
        assert b"missing" in installed("serve", "--data", place).stderr
    assert "is not empty" in told(run("init", tmp_path))[0]
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_a_second_server_on_a_folder_is_refused_and_names_the_holder(served: Path) -> None:
    holder = (served / "lock").read_text().strip()
    result = installed("serve", "--data", served)
    assert result.returncode == 1
    assert f"is held by process {holder}".encode() in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_port_that_is_taken_is_named(served: Path, pristine: Path, tmp_path: Path) -> None:
    data = copy_of(pristine, tmp_path / "data")
    (data / "hanbit.toml").write_bytes((served / "hanbit.toml").read_bytes())
    result = installed("serve", "--data", data)
    assert result.returncode == 1
    assert re.search(rb"Error: this machine: .+ port [1-9]\d*: Address already in use\nSomebody listens there already", result.stderr), (
        result
    )
    assert b"Traceback" not in result.stderr


def test_a_port_of_the_pages_that_is_taken_is_named_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match=f"127.0.0.1 port {taken.getsockname()[1]}: Address"):
        bind(*taken.getsockname())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--operator", "My Bank"), "operator"),
        (("--operator", "a" * 33), "operator"),
        (("--public-url", "http://bank.example"), "public_url"),
        (("--public-url", "https://bank.example/pay"), "public_url"),
        (("--public-url", "https://user@bank.example"), "public_url"),
        (("--public-url", "javascript:alert(1)"), "public_url"),
        (("--public-url", "https://bank.example:99999"), "public_url"),
        (("--name-en", "x" * 61), "name_en"),
        (("--name-ko", "a\nb"), "name_ko"),
        (("--telephone", "call me"), "telephone"),
        (("--listen", "8400"), "--listen"),
        (("--listen", "127.0.0.1:70000"), "--listen"),
        (("--listen", "127.0.0.1:\uff18\uff14\uff10\uff10"), "--listen"),
        (("--line", "127.0.0.1:"), "--line"),
        (("--root-key", "root.key", "--passphrase-fd", "0"), "at least 8"),
    ],
)
def test_init_refuses_settings_beyond_their_grammar_before_it_makes_anything(
    options: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    result = run("init", tmp_path / "data", *options, answers="short\n")
    assert expected in " ".join(told(result))
    assert not (tmp_path / "data").exists()


def test_the_root_key_is_written_apart_and_encrypted(tmp_path: Path) -> None:
    result = run("init", tmp_path / "data", "--root-key", tmp_path / "root.key", "--passphrase-fd", "0", answers="a long passphrase\n")
    assert result.exit_code == 0, result.output
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "root.key").read_bytes()
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "data/keys/root.key").exists()
    assert run_json("merchant", "list", "--data", tmp_path / "data") == {"merchants": []}
