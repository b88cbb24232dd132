"""Listening for customers: a connection is counted before a byte of it is read, then speaks TLS where there is a certificate, then HTTP.

    accept ── no place ──▶ that of the client for whom we have waited longest; if we wait for none, told so, or under TLS closed
       └── place ── TLS handshake, in time, one of so many ──▶ LimitedHttp ──▶ the place is free again

uvicorn speaks HTTP here and does not listen: its server takes connections without counting them, hands TLS no deadlines, and reads no
renewed certificate.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from hanbit.kernel.clock import Clock
from hanbit.web.certificate import SiteCertificate
from hanbit.web.listener import LimitedHttp
from hanbit.web.visitors import NOBODY, Places, Refusal

BACKLOG: Final = 1024
KEEP_ALIVE_S: Final = 20
HANDSHAKE_S: Final = 5.0
"""A TLS handshake takes a few round trips."""
GOODBYE_S: Final = 5.0
"""How long a closing TLS connection may take to read what is left and say goodbye."""
GRACE_S: Final = 7.0
"""How long requests that are being answered may take when the server stops; then they are told to come again."""
LAST_WORDS_S: Final = 1.0
"""How long last answers may take to leave, and what clients have begun to end."""
LOOK_AGAIN_S: Final = 0.05
LINGERING_MAX: Final = 100
"""Refused connections that are told why at once; beyond it they are closed without a word."""
OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_S: Final = 1.0
"""After the machine had no room for one more connection."""
_log = logging.getLogger("hanbit.web")


class Server:
    """One listening socket with everything that is connected to it."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        clock: Clock,
        http: type[LimitedHttp],
        places: Places,
        certificate: SiteCertificate | None,
        handshakes_max: int,
        is_shared: bool,
    ) -> None:
        self._listener = listener
        self._is_shared = is_shared
        self._clock = clock
        self._http = http
        self._places = places
        self._certificate = certificate
        self._handshakes_max = handshakes_max
        # proxy_headers is on by default and would believe anybody on this machine; `visitors.Forwarded` is who reads them.
        self._config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            http=http,
            loop="none",
            ws="none",
        )
        self._config.load()
        self._state = ServerState()
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._beginning: set[asyncio.Task[None]] = set()
        self._clients_turn: dict[LimitedHttp, None] = {}
        self._lingering = 0
        self._background: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> int:
        """Places that are taken, by whatever is connected or shakes hands."""
        return self._places.taken

    @property
    def handshakes(self) -> int:
        """TLS handshakes under way."""
        return len(self._handshakes)

    def start(self) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._background = [asyncio.create_task(self._accept(), name="accept"), asyncio.create_task(self._tell_date(), name="date")]
        if self._certificate is not None:
            self._background.append(asyncio.create_task(self._certificate.watch(), name="certificate"))

    async def stop(self) -> None:
        """Take nobody new, answer what was asked, then tell whoever still waits to come again, then hang up on who does not listen."""
        self._places.is_stopping = True
        if self._is_shared:  # whoever comes now is another process's
            self._background[0].cancel()
        for handshake in tuple(self._handshakes):
            handshake.cancel()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        await _until(lambda: self._at_work() <= 0, GRACE_S)
        await _until(self._is_quiet, LAST_WORDS_S)
        self._hang_up(self._clients_turn)  # they read nothing, or send nothing
        await asyncio.sleep(LOOK_AGAIN_S)
        for task in tuple(self._state.tasks):
            task.cancel()  # `security.Guard` answers 503 for it
        await _until(self._is_quiet, LAST_WORDS_S)
        self._hang_up(self._state.connections)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, *self._beginning, return_exceptions=True)
        self._listener.close()

    @staticmethod
    def _hang_up(connections: Iterable[asyncio.Protocol]) -> None:
        for connection in tuple(connections):
            assert isinstance(connection, LimitedHttp)
            connection.transport.abort()

    def _at_work(self) -> int:
        """Requests whose answer is ours to give: those that wait for the rest of a body, or for a reader, are not."""
        return len(self._state.tasks) - sum(connection.is_being_answered for connection in self._clients_turn)

    def _is_quiet(self) -> bool:
        return not self._places.taken and not self._state.tasks

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:
                # Whoever hung up before we looked is no trouble; without files there is no use in asking at once again.
                if error.errno in OUT_OF_FILES:
                    _log.exception("no_room_for_a_connection")
                    await asyncio.sleep(PAUSE_S)
                continue
            self._begin(connection, str(address[0]) if address else NOBODY)

    def _begin(self, connection: socket.socket, address: str) -> None:
        """Give it a place and begin, or turn it away."""
        refusal = self._places.take(address)
        if refusal is Refusal.FULL and self._clients_turn:
            # Slow ones push one another out; a whole request comes at once, and from then on it is our turn.
            next(iter(self._clients_turn)).push_out()
            refusal = self._places.take(address, beyond=True)
        if refusal is not None:
            self._http.note_cut(refusal.name.lower(), address)
            if self._certificate is not None or self._lingering >= LINGERING_MAX:
                connection.close()
                return
            self._lingering += 1
        elif self._certificate is not None and len(self._handshakes) >= self._handshakes_max:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
            self._http.note_cut("handshake_pushed_out", address)
        task = asyncio.create_task(self._connect(connection, address, refusal))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        if self._certificate is not None:
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _connect(self, connection: socket.socket, address: str, refusal: Refusal | None) -> None:
        """TLS, if we end it, and the protocol, which gives the place back when its connection ends."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            if refusal is None:
                self._places.leave(address)
            else:
                self._lingering -= 1

        protocol = self._http(config=self._config, server_state=self._state, app_state={}, _loop=loop)
        protocol.refusal, protocol.gone, protocol.clients_turn = refusal, gone, self._clients_turn
        context = None if self._certificate is None else self._certificate.context
        deadlines = {} if context is None else {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GOODBYE_S}
        try:
            await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context, **deadlines)
        except OSError as error:  # ssl.SSLError is one: no TLS, too slow, or gone again
            self._http.note_cut("handshake_slow" if isinstance(error, ConnectionAbortedError) else "handshake_failed", address)
        finally:
            if not protocol.is_connected:
                gone()
                connection.close()

    async def _tell_date(self) -> None:
        """The Date header, for all answers of a second."""
        while True:
            self._state.default_headers = [(b"date", formatdate(self._clock.now(), usegmt=True).encode("ascii"))]
            await asyncio.sleep(1)


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Until it holds, or so many seconds are over."""
    latest = asyncio.get_running_loop().time() + seconds
    while not condition() and asyncio.get_running_loop().time() < latest:  # noqa: ASYNC110 - uvicorn's requests ring no bell
        await asyncio.sleep(LOOK_AGAIN_S)


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    *,
    clock: Clock,
    http: type[LimitedHttp] = LimitedHttp,
    places: Places,
    certificate: SiteCertificate | None = None,
    handshakes_max: int = 256,
    is_shared: bool = False,
) -> AsyncIterator[Server]:
    """Serve an application on a bound socket until the block ends, then stop in order; `is_shared` with processes that go on."""
    server = Server(
        app,
        listener,
        clock=clock,
        http=http,
        places=places,
        certificate=certificate,
        handshakes_max=handshakes_max,
        is_shared=is_shared,
    )
    server.start()
    try:
        yield server
    finally:
        await server.stop()


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to this address, not listening yet; OSError names the address."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{host} port {port}: {error.strerror}") from error
    return listener
