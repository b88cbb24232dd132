"""JSON log lines, one event each, with the correlation ids of the request and payment; names that could hold a secret are dropped.

`reference` is the number that the browser's page shows; `payment` is the payment's own id, which the gateway, the line and the merchant
all know. Both are bound once a request knows them and stand in every line that follows.

A line costs a payment some 15 µs: structlog and the standard library's loggers each render straight to the bytes that are written.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog
from structlog.types import EventDict

SECRET_NAMES = ("password", "secret", "token", "cookie", "authorization", "login", "number", "code_hash")
TEXT_MAX = 300
_NAMES_KEPT = 1024
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What a record of the standard library has anyway; everything else came as `extra`."""


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Drop what is named like a secret and cut what is long; the last line of defence, not the first."""
    for name in [name for name in event if _is_secret(name)]:
        del event[name]
    for name, value in event.items():
        if isinstance(value, str) and name != "exception" and len(value) > TEXT_MAX:
            event[name] = value[:TEXT_MAX]
    return event


@lru_cache(maxsize=_NAMES_KEPT)
def _is_secret(name: str) -> bool:
    """Whether a value under this name may be one; the same few names come in every line."""
    return any(secret in name.lower() for secret in SECRET_NAMES)


def render(_logger: Any, _method: str, event: EventDict) -> bytes:
    """One line of JSON: a line end inside a text is escaped, so that nobody can forge a line."""
    try:
        return msgspec.json.encode(event, enc_hook=repr)
    except (
        UnicodeError,
        TypeError,
        ValueError,
        RecursionError,
    ):  # half a surrogate pair, a key that is no text: somebody else's, to be kept
        return json.dumps(repr(event)).encode("ascii")


def configure(level: int = logging.INFO) -> None:
    """Send every log line of this process, whoever writes it, to standard error as JSON."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            render,
        ],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=level, handlers=[_JsonHandler()], force=True)
    for noisy in ("uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # uvicorn warns of each malformed request; the listener counts and tells them itself, a line a second at most.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _Lines:
    """Where structlog hands a rendered line to."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: bytes) -> None:
        _write(line)

    debug = info = warning = error = critical = msg


class _JsonHandler(logging.Handler):
    """The standard library's records in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            extra = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
            event: EventDict = {
                "event": record.getMessage(),
                **structlog.contextvars.get_contextvars(),
                **extra,
                "level": record.levelname.lower(),
                "logger": record.name,
                "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            }
            if record.exc_info:
                event["exc_info"] = record.exc_info
                event = structlog.processors.format_exc_info(None, record.levelname, event)
            _write(render(None, "", redact(None, "", event)))
        except Exception:  # noqa: BLE001 - a line that cannot be written must not end what it tells of
            self.handleError(record)


def _add_name(logger: Any, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _write(line: bytes) -> None:
    # One write a line, so that lines of several threads do not mix.
    sys.stderr.buffer.write(line + b"\n")
    sys.stderr.buffer.flush()
