"""What `deploy/` holds really starts: the units under a systemd and by their ExecStart, nginx in front; a payment through each."""

import asyncio
import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from hanbit.demo.cases import prove
from hanbit.demo.world import Ports, World
from hanbit.kernel.clock import SystemClock
from hanbit.kernel.errors import Unavailable
from hanbit.loopback import LoopbackResolver
from hanbit.settings import load
from hanbit.wallet.client import Http
from hanbit.wallet.pay import Device, Wallet
from hanbit.wallet.store import Store
from tests.faces.test_site_certificate import make_site_certificate
from tests.flows import real_systemd
from tests.flows.crash_processes import PATIENCE_S, insist, site, trusting
from tests.flows.crash_world import LOGIN, PASSWORD, make_folder
from tests.flows.real_systemd import NotPossible

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = ("hanbit", "hanbit-agent")
AGENT = "http://127.0.0.1:8405"
EXPOSURE_MAX = 20
"""Tenths of `systemd-analyze security`'s scale, on which a service without restrictions has 96."""


def exec_start(unit: str) -> list[str]:
    """The unit's command, word by word."""
    parsed = configparser.RawConfigParser(strict=False)
    parsed.read(DEPLOY / f"{unit}.service", "utf-8")
    return shlex.split(parsed["Service"]["ExecStart"])


# --- systemd --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_understood_and_gives_little_away(unit: str, tmp_path: Path, systemd_analyze: str) -> None:
    program = tmp_path / "opt/hanbit/bin/hanbit"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n", "ascii")
    program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/kill", tmp_path / "bin/kill")
    home = tmp_path / "etc/systemd/system"
    home.mkdir(parents=True)
    shutil.copy(DEPLOY / f"{unit}.service", home)
    for target in real_systemd.TARGETS:
        (home / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n", "ascii")
    said = subprocess.run(
        [systemd_analyze, "verify", "--man=no", f"--root={tmp_path}", f"{unit}.service"], capture_output=True, text=True, check=False
    )
    assert (said.returncode, [line for line in said.stderr.splitlines() if unit in line]) == (0, []), said.stderr
    safety = ["security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", f"--root={tmp_path}", f"{unit}.service"]
    said = subprocess.run([systemd_analyze, *safety], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout[-600:] + said.stderr


async def test_the_command_of_the_unit_tells_its_manager_that_it_is_ready_alive_and_stopping(place: tuple[Path, Ports]) -> None:
    folder, _ = place
    command = [word.replace("/var/lib/hanbit", str(folder / "gateway")) for word in exec_start("hanbit")]
    assert command[0] == "/opt/hanbit/bin/hanbit"
    loop, told = asyncio.get_running_loop(), str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(told)
        manager.setblocking(False)
        environment = {**os.environ, "NOTIFY_SOCKET": told, "WATCHDOG_USEC": "400000"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hanbit", *command[1:]), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )

        async def hears(what: bytes) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while what not in (await loop.sock_recv(manager, 4096)).split(b"\n"):
                    pass

        try:
            await hears(b"READY=1")
            for _ in range(3):
                await hears(b"WATCHDOG=1")
            process.send_signal(signal.SIGHUP)  # ExecReload; there is no certificate of its own here
            await hears(b"WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            await hears(b"STOPPING=1")
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_both_units_run_under_a_systemd_and_a_payment_goes_through_them(place: tuple[Path, Ports], disk: Path) -> None:
    """The shop is the agent's, the server the unit's: each confined as its file says, started and stopped by systemd."""
    folder, ports = place
    under = disk / "systemd"
    under.mkdir()
    shutil.copytree(folder / "gateway", under / "hanbit")
    shutil.copytree(folder / "shop", under / "hanbit-agent")
    try:
        async with real_systemd.systemd(under) as systemd:
            await systemd.control("start", "hanbit.service")
            await systemd.control("start", "hanbit-agent.service")
            assert await systemd.show("hanbit", "StatusText") == f"serving http://pay.localhost:{ports.pay}"
            for unit in UNITS:
                process = real_systemd.main_process(await systemd.show(unit, "MainPID"))
                assert re.search(r"Max core file size +0 ", read(process / "limits"))
                assert re.search(r"NoNewPrivs:\t1\n", read(process / "status"))
                assert re.search(r"Seccomp:\t2\n", read(process / "status"))
                assert not re.search(r"Uid:\t0\t", read(process / "status"))
            await _pay_by_agent(folder, ports, under / "hanbit-agent")
            await systemd.control("reload", "hanbit.service")
            await systemd.control("stop", "hanbit-agent.service", "hanbit.service")
            for unit in UNITS:
                assert (await systemd.show(unit, "Result"), await systemd.show(unit, "ExecMainStatus")) == ("success", "0"), systemd.log()
        report = await prove(World(under / "hanbit", load(under / "hanbit"), {}, {}))
        assert report["ledger"]["balanced"], report
        assert report["evidence"]["verified"], report
    except NotPossible as reason:
        pytest.skip(str(reason))


def read(path: Path) -> str:
    return path.read_text("utf-8", "replace")


async def _pay_by_agent(folder: Path, ports: Ports, agent: Path) -> None:
    settings = load(folder / "gateway")
    store = Store(folder / "wallet")
    enrolled = store.enrolment(settings.operator)
    assert enrolled is not None
    headers = {"Authorization": f"Bearer {(agent / 'agent.token').read_text('ascii').strip()}"}
    order = {
        "lines": [{"item": "IM-1100", "quantity": 1, "price_minor": 1000}],
        "amount": "1000",
        "currency": "KRW",
        "text": "IM-1100",
        "return_url": f"http://shop.localhost:{ports.shops[0]}/",
    }
    async with aiohttp.ClientSession(AGENT, headers=headers) as http, Http() as wallets:

        async def line_is_up() -> None:
            async with http.get("/line") as answer:
                if not (await answer.json())["up"]:
                    raise Unavailable

        await insist(line_is_up)
        async with http.post("/orders", json=order, headers={"Idempotency-Key": "deploy-1"}) as answer:
            placed = await answer.json()
            assert answer.status == 201, placed
        wallet = Wallet.at(settings.public_url, pin=store.pin(settings.operator), http=wallets, clock=SystemClock(), poll_s=0.1)
        opened = await wallet.open(placed["redirect"])
        await wallet.login(opened, LOGIN, PASSWORD)
        account = json.loads((folder / "accounts.json").read_text("ascii"))["bank"]
        assert (await wallet.submit(opened, Device(enrolled.device), account=account)).state == "captured"
        async with http.get(f"/orders/{placed['tid']}?wait=10") as answer:
            assert (await answer.json())["may_deliver"] is True


# --- nginx ----------------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def nginx_in_front(program: str, folder: Path, *, host: str, public: int, plain: int, behind: int) -> AsyncIterator[Path]:
    """The sample itself, with other names, ports and paths; yields its access log."""
    prefix = folder / "nginx"
    (prefix / "logs").mkdir(parents=True)
    make_site_certificate(prefix, host)
    sample = (DEPLOY / "nginx/hanbit.conf").read_text("utf-8")
    for before, after in (
        ("pay.bank.example$request_uri", f"{host}:{public}$request_uri"),
        ("server_name pay.bank.example", f"server_name {host}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{public} ssl"),
        ("listen 80", f"listen 127.0.0.1:{plain}"),
        ("server 127.0.0.1:8400", f"server 127.0.0.1:{behind}"),
        ("/etc/hanbit/site", str(prefix / "site")),
        ("/var/log/nginx/hanbit.log", str(prefix / "logs/hanbit.log")),
    ):
        assert before in sample
        sample = sample.replace(before, after)
    paths = "".join(f"{name}_temp_path {prefix}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    whole = f"daemon off; {user} pid {prefix}/nginx.pid; worker_processes 1; events {{}} http {{ {paths}\n{sample}\n}}\n"
    (prefix / "nginx.conf").write_text(whole, "utf-8")
    arguments = [program, "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", str(prefix / "logs/error.log")]
    process = await asyncio.create_subprocess_exec(*arguments, stdin=subprocess.DEVNULL)
    try:
        yield prefix / "logs/hanbit.log"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGQUIT)
        await asyncio.wait_for(process.wait(), PATIENCE_S)


async def logged(log: Path, reference: str) -> dict[str, object]:
    """The log line with this reference; it is written when the answer has left."""

    async def find() -> dict[str, object]:
        for line in read(log).splitlines():
            if reference in line:
                return dict(json.loads(line))
        raise Unavailable

    return await insist(find)


async def test_a_payment_through_nginx_as_the_sample_sets_it_up(tmp_path: Path, nginx: str) -> None:
    ports, free = Ports.free(), Ports.free()
    public, plain = free.pay, free.line
    base = f"https://pay.localhost:{public}"
    await make_folder(tmp_path, SystemClock(), ports, public_url=base, trusted_proxies=["127.0.0.1"])
    async with nginx_in_front(nginx, tmp_path, host="pay.localhost", public=public, plain=plain, behind=ports.pay) as log:
        certificate = tmp_path / "nginx/site.pem"
        async with site(tmp_path, ports, tls=trusting(certificate)) as s:
            await s.new_payment()
            forged = {"X-Forwarded-For": "203.0.113.66", "X-Forwarded-Proto": "http"}
            connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=trusting(certificate), local_addr=("127.0.0.5", 0))
            async with (
                aiohttp.ClientSession(connector=connector) as other,
                other.get(f"{base}/nowhere?MID=garam", headers=forged) as answer,
            ):
                assert answer.status == 404
                reference = answer.headers["X-Reference"]
                assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
            assert (await logged(tmp_path / "gateway.log", reference))["client"] == "127.0.0.5"  # and not what the client wrote
            async with s.http.get(f"http://pay.localhost:{plain}/pay?MID=garam", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (308, f"{base}/pay?MID=garam")
            connector = aiohttp.TCPConnector(resolver=LoopbackResolver(), ssl=False)
            async with aiohttp.ClientSession(connector=connector) as other:
                with pytest.raises(aiohttp.ClientConnectorError):
                    await other.get(f"https://other.localhost:{public}/healthz")
            async with s.http.post(f"{base}/pay/login", data=b"x" * 100_000) as answer:
                assert answer.status == 413
            # Straight to the port behind, as somebody on the same machine might: he is believed nothing of it in clear.
            async with s.http.get(f"http://pay.localhost:{ports.pay}/healthz", headers={"X-Forwarded-Proto": "http"}) as answer:
                assert answer.status == 403
            await s.proven()
        said = read(log)
        assert reference in said
        assert "MID=" not in said


# --- container ------------------------------------------------------------------------------------------------------------------------


def test_the_container_file_copies_what_exists_and_ends_as_nobody_special() -> None:
    """It is not built here; what can be said without building it."""
    lines = (DEPLOY / "Containerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    copied = [shlex.split(line)[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert copied
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists(), name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    there = {Path(name).parts[0] for names in copied for name in names}
    built_of = {
        project["project"]["readme"],
        *project["project"]["license-files"],
        *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    }
    assert {Path(name).parts[0] for name in built_of} <= there, "the wheel is built of nothing that is not copied"
    bases = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert len(bases) == 1, "what is built in one image runs in another"
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases.pop())
    installs = [step for line in lines if line.startswith("RUN") for step in line.split("&&") if "pip install" in step]
    assert installs
    for step in installs:
        assert "--require-hashes" in step or "--no-deps" in step, step
    assert not any(word in line for line in lines for word in ("curl", "wget", "ADD ", "apt-get", "chmod 777", ":latest"))
    last = max(place for place, line in enumerate(lines) if line.startswith("USER"))
    assert not any(line.startswith(("RUN", "COPY")) for line in lines[last:]), "whatever is there belongs to root and stays as it is"
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == ["hanbit"]
    assert json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).partition(" ")[2]) == ["hanbit"]
    assert json.loads(next(line for line in lines if line.startswith("CMD")).partition(" ")[2])[:2] == ["serve", "--data"]
