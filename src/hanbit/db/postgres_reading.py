"""What a Reader reads through on PostgreSQL: a connection that cannot write, in a circuit that opens when the database is gone.

Point reads are made where the loop runs. While there is no database each is Unavailable at once, and a thread brings the connection back:
what a read can cost the loop is READ_WAIT_S, once an outage.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any

import psycopg

from hanbit.db import postgres_link
from hanbit.db.postgres import check_book
from hanbit.db.postgres_link import Link, Lost, Parameter, Rows, described
from hanbit.kernel.errors import BadInput, HanbitError, Unavailable

READ_WAIT_S = 5.0
"""For the answer to a point read; then the database counts as gone."""
SCAN_WAIT_S = 120.0
"""For the answer to a long read, which no loop waits for."""
RECONNECT_EVERY_S = 0.5
CLOSE_WAIT_S = 10.0
"""For the thread that brings the connection back, when nobody needs it any more."""
SESSION = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}
POINT_READS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""A point read finds its rows by an index, however small the table was when its plan was made."""
_log = logging.getLogger("hanbit.book")


class PatientConnection:
    """For checks and other long reads, which may take their time; one that is lost stays lost."""

    def __init__(self, url: str, wait_s: float | None = None) -> None:
        self.url = url
        self._link = _open(url, wait_s=wait_s, session=SESSION)

    def execute(self, sql: str, values: Sequence[Parameter] = ()) -> Rows:
        """One statement."""
        return _told(self._link, sql, values)

    def stream(self, sql: str, values: Sequence[Parameter] = ()) -> Rows:
        """More rows than should be in memory at once; in a snapshot only."""
        return self._link.stream(sql, values)

    def close(self) -> None:
        """Give it back."""
        self._link.close()


class Circuit:
    """For point reads where the loop runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._link: Link | None = self._open()

    def execute(self, sql: str, values: Sequence[Parameter] = ()) -> Rows:
        """One statement; Unavailable at once while the database is away."""
        link = self._link
        if link is None:
            raise Unavailable("the database is away")
        try:
            return _told(link, sql, values)
        finally:
            if not link.is_open:
                self._lose(link)

    def stream(self, sql: str, values: Sequence[Parameter] = ()) -> Rows:
        """More rows than should be in memory at once; in a snapshot only."""
        link = self._link
        if link is None:
            raise Unavailable("the database is away")
        return link.stream(sql, values)

    def close(self) -> None:
        """Give it back, and stop looking for another."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)
        if self._link is not None:
            self._link.close()

    def _open(self) -> Link:
        session = {**SESSION, **POINT_READS, "statement_timeout": str(int(READ_WAIT_S * 1000))}
        return _open(self.url, wait_s=READ_WAIT_S, session=session)

    def _lose(self, link: Link) -> None:
        link.close()
        self._link = None
        if not self._closed.is_set():
            self._thread = threading.Thread(target=self._bring_back, name="reconnect", daemon=True)
            self._thread.start()

    def _bring_back(self) -> None:
        while not self._closed.wait(RECONNECT_EVERY_S):
            try:
                self._link = self._open()
            except HanbitError as error:
                _log.info("database_away", extra={"reason": str(error)})
            else:
                _log.info("database_back")
                return


def _open(url: str, *, wait_s: float | None, session: dict[str, str]) -> Link:
    link = postgres_link.connect(url, wait_s=wait_s, session=session)
    try:
        check_book(link, url)
    except (Lost, psycopg.Error) as error:
        link.close()
        raise Unavailable(f"{described(url)}: {error}") from error
    except BaseException:
        link.close()
        raise
    return link


def _told(link: Link, sql: str, values: Sequence[Any]) -> Rows:
    """The statement's rows, or our own error for what is not a bug."""
    try:
        return link.execute(sql, values)
    except Lost as error:
        raise Unavailable("the database is away") from error
    except psycopg.DataError as error:
        raise BadInput("a value that the book cannot hold") from error
    except psycopg.OperationalError as error:
        _log.error("the book cannot be read: %s", error)
        raise Unavailable("the book cannot be read") from error
