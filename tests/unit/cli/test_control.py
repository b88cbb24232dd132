"""The control socket of a running server: whatever is written to it gets one clear line, changes nothing, and the server goes on."""

import json
import socket
from pathlib import Path

import pytest

from tests.unit.cli.world import run_json

DEEP = b"[" * 200_000


def say(data: Path, line: bytes, *, more: bool = False) -> bytes:
    """One line to the socket; what comes back until it closes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(data / "control"))
        try:
            connection.sendall(line)
            if not more:
                connection.shutdown(socket.SHUT_WR)
            return connection.makefile("rb").read()
        except (BrokenPipeError, ConnectionResetError):
            return b""  # it hung up while we were writing


def ask(command: object, arguments: object) -> bytes:
    return json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"x\n", b"\xff\xfe\n", b"null\n", b"[]\n", b'"fund"\n', b"{}\n", b"1e999\n", DEEP + b"\n", b"9" * 5_000 + b"\n", b"\x00\n",
        ask("nothing", {}), ask("__class__", {}), ask("run", {}), ask(["fund"], {}), ask(None, None), ask("fund", []), ask("fund", {}),
        ask("fund", {"account": "x"}), ask("fund", {"account": "x", "amount": 5}),
        ask("fund", {"account": "x", "amount": "5", "gateway": "x"}),
        ask("fund", {"account": "x", "amount": "5", "__dict__": "x"}), ask("list_parties", {"what": "sessions"}),
        ask("set_state", {"what": "payments"}),
        ask("create_customer", {"login": "\ud800", "name": "x", "password": "x"}),
        ask("create_customer", {"login": "x", "name": "x", "password": "\ud800"}),
        ask("enrol_code", {}), ask("revoke", {"kid": "'; DROP TABLE entries; --"}),
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused_in_one_line(served: Path, line: bytes) -> None:
    before = run_json("ledger", "check", "--data", served), run_json("customer", "list", "--data", served)
    answer = json.loads(say(served, line))
    assert set(answer) == {"error", "code"}, answer
    assert answer["code"] in {"bad_input", "not_found"}, answer
    assert "Traceback" not in answer["error"]
    assert (run_json("ledger", "check", "--data", served), run_json("customer", "list", "--data", served)) == before


def test_a_line_without_end_and_an_empty_one_are_hung_up_on(served: Path) -> None:
    assert say(served, b"") == b""
    assert say(served, b"x" * (2 << 20), more=True) == b""
    assert run_json("merchant", "list", "--data", served)["merchants"] is not None


def test_the_socket_is_its_owners_alone(served: Path) -> None:
    assert (served / "control").stat().st_mode & 0o777 == 0o600
