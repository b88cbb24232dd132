"""A wire between a client and PostgreSQL that can lose one answer: the server does what it was told, and nobody hears of it."""

import socket
import threading
from contextlib import suppress

from tests.cluster import OWNER, PASSWORD, Cluster
from tests.waiting import PATIENCE_S


class Wire:
    """Stands between a client and the server; drops what comes back when it is told to."""

    def __init__(self, cluster: Cluster) -> None:
        self._target = ("127.0.0.1", cluster.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lose_answer_to: bytes = b""
        self.lost = 0
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._ends += [client, server]
            deaf = threading.Event()  # the client hears nothing more on this connection
            for one, other, forth in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._carry, args=(one, other, forth, deaf), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, forth: bool, deaf: threading.Event) -> None:
        try:
            while data := source.recv(65536):
                if forth and self.lose_answer_to and self.lose_answer_to in data:
                    self.lose_answer_to = b""
                    deaf.set()
                if not forth and deaf.is_set():  # the server has carried it out; nobody hears of it
                    self.lost += 1
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            self._hang_up(source, target)

    @staticmethod
    def _hang_up(*ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes whoever reads from it

    def to(self, database: str) -> str:
        """The address of a database behind the wire, which is `database` by the socket."""
        name = database.split("///")[1].split("?", maxsplit=1)[0]
        return f"postgresql://{OWNER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{name}?sslmode=disable"

    def close(self) -> None:
        self._hang_up(self._listener, *self._ends)
        self._listener.close()
        for thread in self._threads[1:]:
            thread.join(PATIENCE_S)
        for end in self._ends:
            end.close()
