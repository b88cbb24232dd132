"""The listening socket of a door: strangers are hung up on unread, and of those who have not proved who they are there are only so many.

Whoever is one too many costs a place of the address that holds most of them, and there the one that has waited longest: a peer that means
it needs a few round trips, so a flood from one address pushes out nobody but itself.
"""

import errno
import os
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})


class Reception(socket.socket):
    """Accepts from registered addresses alone, and keeps count until `let_in` says that a peer has proved who it is."""

    def __init__(
        self,
        family: int,
        kind: int,
        *,
        may_knock: Callable[[str], bool],
        knocking_max: int,
        on_pushed_out: Callable[[], None],
        descriptor: int | None = None,
    ) -> None:
        super().__init__(family, kind, fileno=descriptor)
        self._may_knock = may_knock
        self._knocking_max = knocking_max
        self._on_pushed_out = on_pushed_out
        self._knocking: dict[Any, socket.socket] = {}
        """peer's address and port → its connection, the longest waiting first"""
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def accept(self) -> tuple[socket.socket, Any]:
        """As `socket.accept`; a stranger is hung up on, which to the loop is one who has left the queue again."""
        connection, address = self._accept_whatever_comes()
        if not self._may_knock(plain_address(address[0])):
            connection.close()
            raise ConnectionAbortedError("not a registered address")
        if len(self._knocking) >= self._knocking_max:
            self._make_room()
        self._knocking[address] = connection
        return connection, address

    def let_in(self, address: Any) -> None:
        """The peer at this address and port is counted by whoever takes it from here."""
        self._knocking.pop(address, None)

    def close(self) -> None:
        """As `socket.close`."""
        spare, self._spare = self._spare, -1
        if spare >= 0:
            os.close(spare)
        self._knocking.clear()
        super().close()

    def _accept_whatever_comes(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _OUT_OF_FILES:
                raise
        # Left in the queue it would wake the loop again and again: the file that is kept for this hangs up on it.
        os.close(self._spare)
        try:
            super().accept()[0].close()
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        raise ConnectionAbortedError("no files are left")

    def _make_room(self) -> None:
        self._knocking = {address: connection for address, connection in self._knocking.items() if connection.fileno() >= 0}
        if len(self._knocking) < self._knocking_max:
            return
        most = Counter(address[0] for address in self._knocking).most_common(1)[0][0]
        longest = next(address for address in self._knocking if address[0] == most)
        with suppress(OSError):  # it has just gone by itself
            self._knocking.pop(longest).shutdown(socket.SHUT_RDWR)
        self._on_pushed_out()


def plain_address(text: str) -> str:
    """The one spelling of an IP address, without the zone that a socket adds to a link-local one."""
    return ip_address(text.partition("%")[0]).compressed
