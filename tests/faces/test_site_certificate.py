"""The site's own TLS: what is offered, what is refused, and a certificate that is renewed while the server runs."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hanbit.kernel.clock import ManualClock, SystemClock
from hanbit.kernel.errors import BadInput
from hanbit.web import certificate, serving
from hanbit.web.certificate import SiteCertificate
from hanbit.web.listener import LimitedHttp, counted_by
from hanbit.web.serving import Server
from hanbit.web.visitors import Places, Proxies
from tests.waiting import until

HOST = "pay.bank.example"
DAY_S = 86_400
USELESS = ("no file", "no key", "another key", "garbage", "key for all to read", "key with a passphrase", "nameless")


def make_site_certificate(folder: Path, *names: str, begins: int = -DAY_S, lives: int = 10 * DAY_S) -> tuple[Path, Path]:
    """A public certificate for these names, made by itself, and its key, as an operator would put them there."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([])
    start = dt.datetime.fromtimestamp(SystemClock().now() + begins, dt.UTC)
    found: list[x509.GeneralName] = []
    for name in names or (HOST,):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(seconds=lives))
        .add_extension(x509.SubjectAlternativeName(found), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "site.pem", folder / "site.key"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.touch(0o600)
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return chain, private


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return make_site_certificate(tmp_path)


def loaded(files: tuple[Path, Path], host: str = HOST) -> SiteCertificate:
    return SiteCertificate(*files, host=host, clock=SystemClock())


class Counted:
    """What the listener told of itself."""

    def __init__(self) -> None:
        self.cut: list[str] = []

    def request(self, route: str, status: int, seconds: float) -> None:
        """Not of interest."""

    def connection_cut(self, reason: str) -> None:
        self.cut.append(reason)


@asynccontextmanager
async def listening(
    site: SiteCertificate | None, *, places: Places | None = None, handshakes_max: int = 256, body: bytes = b"here"
) -> AsyncIterator[tuple[Server, int, Counted]]:
    async def page(_: Request) -> Response:
        return PlainTextResponse(body)

    counted = Counted()
    listener = serving.bind("127.0.0.1", 0)
    app = Starlette(routes=[Route("/", page)])
    places = places or Places(100, 100, Proxies(()))
    async with serving.serving(
        app, listener, clock=SystemClock(), http=counted_by(counted), places=places, certificate=site, handshakes_max=handshakes_max
    ) as server:
        yield server, listener.getsockname()[1], counted


def trusting(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files[0])
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def ask(port: int, context: ssl.SSLContext) -> tuple[bytes, ssl.SSLObject]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answered = await reader.read()
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return answered, tls


async def test_the_newest_tls_and_http_1_are_agreed_upon(files: tuple[Path, Path]) -> None:
    async with listening(loaded(files)) as (_, port, _counted):
        answered, tls = await ask(port, trusting(files))
        assert answered.startswith(b"HTTP/1.1 200")
        assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
        older = trusting(files)
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        answered, tls = await ask(port, older)
        assert answered.startswith(b"HTTP/1.1 200")
        cipher = tls.cipher()
        assert cipher is not None
        assert cipher[0].startswith("ECDHE-")
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


async def test_old_tls_and_ciphers_without_forward_secrecy_get_no_connection(files: tuple[Path, Path]) -> None:
    site = loaded(files)
    assert site.context.minimum_version == ssl.TLSVersion.TLSv1_2
    async with listening(site) as (_, port, counted):
        context = trusting(files)
        context.set_ciphers("AES128-GCM-SHA256:AES256-SHA:ECDHE-ECDSA-AES128-SHA")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(OSError):  # an alert or a hang-up
            await ask(port, context)
        await until(lambda: counted.cut == ["handshake_failed"])


@pytest.mark.parametrize(
    "defect", ["no file", "no key", "another key", "garbage", "key for all to read", "key with a passphrase", "nameless"]
)
def test_files_that_cannot_serve_stop_the_start(defect: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    spoil(defect, files, tmp_path)
    with pytest.raises(BadInput) as refused:
        loaded(files)
    assert str(files[0]) in refused.value.detail or str(files[1]) in refused.value.detail


def spoil(defect: str, files: tuple[Path, Path], folder: Path) -> None:
    chain, key = files
    if defect == "no file":
        chain.unlink()
    elif defect == "no key":
        key.unlink()
    elif defect == "another key":
        (folder / "other").mkdir()
        key.write_bytes(make_site_certificate(folder / "other")[1].read_bytes())
    elif defect == "garbage":
        chain.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    elif defect == "key for all to read":
        key.chmod(0o640)
    elif defect == "key with a passphrase":
        found = serialization.load_pem_private_key(key.read_bytes(), None)
        how = serialization.BestAvailableEncryption(b"secret")
        key.write_bytes(found.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    elif defect == "nameless":
        own = ec.generate_private_key(ec.SECP256R1())
        name, now = x509.Name([]), dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(own.public_key()).serial_number(1)
        made = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1)).sign(own, hashes.SHA256())
        chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    elif defect == "ended":
        make_site_certificate(folder, begins=-10 * DAY_S, lives=DAY_S)
    elif defect == "another's":
        make_site_certificate(folder, "pay.evil.example")


@pytest.mark.parametrize(
    "defect",
    ["no file", "no key", "another key", "garbage", "key for all to read", "key with a passphrase", "nameless", "ended", "another's"],
)
async def test_a_bad_renewal_is_refused_and_the_certificate_before_stays(
    defect: str, files: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site, context = loaded(files), trusting(files)
    async with listening(site) as (_, port, _counted):
        spoil(defect, files, tmp_path)
        assert site.reload() is False
        assert "site_certificate_refused" in caplog.messages
        assert (await ask(port, context))[0].startswith(b"HTTP/1.1 200")


async def test_a_renewed_certificate_is_served_to_the_next_connection(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody calls `reload` here: the files are looked at. A connection that is open goes on under the old one."""
    monkeypatch.setattr(certificate, "LOOK_EVERY_S", 0.02)
    site, before = loaded(files), trusting(files)
    async with listening(site) as (_, port, _counted):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=before, server_hostname=HOST)
        (tmp_path / "new").mkdir()
        renewed = make_site_certificate(tmp_path / "new")
        was = site.context
        for new, old in zip(reversed(renewed), reversed(files), strict=True):  # for a moment the two do not belong together
            new.replace(old)
            await asyncio.sleep(0.1)
        await until(lambda: site.context is not was)
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(port, before)
        assert (await ask(port, trusting(files)))[0].startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read(1 << 16)).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize(
    ("names", "host", "good"),
    [
        (["pay.bank.example"], "PAY.bank.example", True),
        (["*.bank.example"], HOST, True),
        (["*.example"], HOST, False),
        (["*.pay.bank.example"], HOST, False),
        (["bank.example", HOST], HOST, True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["2001:db8::1"], "2001:0db8::1", True),
    ],
)
def test_whom_a_certificate_is_for(names: list[str], host: str, good: bool, tmp_path: Path) -> None:
    facts = certificate.read(make_site_certificate(tmp_path, *names)[0])
    assert (not facts.complaints(host, SystemClock().now())) is good


def test_a_certificate_that_has_ended_serves_at_the_start_and_is_complained_of(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Merchants' lines and recovery need no public certificate: they must not wait for its renewal."""
    SiteCertificate(*files, host=HOST, clock=ManualClock(SystemClock().now() + 100 * DAY_S))
    assert "site_certificate_is_of_no_use" in caplog.messages


# --- deadlines and limits -------------------------------------------------------------------------------------------------------------


async def test_a_silent_handshake_is_cut_and_gives_its_place_back(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HANDSHAKE_S", 0.2)
    async with listening(loaded(files)) as (server, port, counted):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: server.connections == 1)
        assert await reader.read() == b""
        writer.close()
        await until(lambda: server.connections == server.handshakes == 0)
        assert counted.cut == ["handshake_slow"]


async def test_a_handshake_too_many_takes_the_place_of_the_oldest(files: tuple[Path, Path]) -> None:
    async with listening(loaded(files), handshakes_max=3) as (server, port, counted):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await until(lambda: server.handshakes == 3)
        assert (await ask(port, trusting(files)))[0].startswith(b"HTTP/1.1 200")
        assert await silent[0][0].read() == b""
        assert counted.cut == ["handshake_pushed_out"]
        assert server.handshakes == 2
        for _, writer in silent:
            writer.close()


async def test_no_tls_on_the_tls_port_is_cut(files: tuple[Path, Path]) -> None:
    async with listening(loaded(files)) as (server, port, counted):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()
        await until(lambda: server.connections == 0)
        assert counted.cut == ["handshake_failed"]


@pytest.mark.parametrize("with_tls", [False, True])
async def test_an_address_with_too_many_connections_is_turned_away_and_another_is_not(
    with_tls: bool, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LimitedHttp, "_logged_at", {})
    places = Places(100, 2, Proxies(()))
    async with listening(loaded(files) if with_tls else None, places=places) as (server, port, counted):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: server.connections == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = await reader.read()
        assert answered == b"" if with_tls else answered.startswith(b"HTTP/1.1 429")
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        await until(lambda: server.connections == 3)
        writer.close()
        for _, other in held:
            other.close()
        await until(lambda: server.connections == 0)
        assert counted.cut[0] == "address"
        assert "client=127.0.0.1 reason=address" in capsys.readouterr().out


async def test_a_connection_whose_request_was_answered_before_its_body_came_is_waited_for_like_any_other() -> None:
    async with listening(None) as (server, port, _counted):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        assert (await reader.read(4096)).startswith(b"HTTP/1.1 404")
        writer.write(b"{}")
        await asyncio.sleep(0)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
        assert len(server._clients_turn) == 1
        writer.close()


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_client_that_never_reads_its_answer_is_cut(
    with_tls: bool, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LimitedHttp, "read_deadline_s", 0.3)
    monkeypatch.setattr(LimitedHttp, "close_deadline_s", 0.3)
    monkeypatch.setattr(serving, "GOODBYE_S", 0.3)
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 1)
    async with listening(loaded(files) if with_tls else None, body=b"x" * 20_000_000) as (server, port, _counted):
        raw = socket.create_connection(("127.0.0.1", port))
        connection = trusting(files)
        connection.check_hostname = False
        await asyncio.sleep(0)
        used = await asyncio.to_thread(connection.wrap_socket, raw) if with_tls else raw
        used.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: server.connections == 1)
        await until(lambda: server.connections == 0)
        used.close()


async def test_a_client_that_closes_after_its_last_answer_without_reading_it_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedHttp, "read_deadline_s", 0.3)
    async with listening(None, body=b"x" * 20_000_000) as (server, port, counted):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await until(lambda: server.connections == 1)
            await until(lambda: counted.cut == ["slow_read"])
            await until(lambda: server.connections == 0)


# --- stop -----------------------------------------------------------------------------------------------------------------------------


async def test_a_stop_tells_whoever_comes_or_is_half_way_to_come_again() -> None:
    async with listening(None) as (server, port, _counted):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHo")
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        idle_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await idle_reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
        await until(lambda: server.connections == 2)
        stopping = asyncio.create_task(server.stop())
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", port)
        for told in (reader, late_reader):
            answered = await told.read()
            assert answered.startswith(b"HTTP/1.1 503")
            assert b"retry-after: 2" in answered
            assert b"connection: close" in answered
        assert await idle_reader.read() == b""
        for other in (writer, late_writer, idle_writer):
            other.close()
        await stopping
