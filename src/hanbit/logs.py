"""JSON log lines, one event each, with the correlation ids of the request and payment; names that could hold a secret are dropped.

`reference` is the number that the browser's page shows; `payment` is the payment's own id, which the gateway, the line and the merchant
all know. Both are bound once a request knows them and stand in every line that follows.
"""

import logging
import sys
from typing import Any

import structlog
from structlog.types import EventDict, Processor

SECRET_NAMES = ("password", "secret", "token", "cookie", "authorization", "login", "number", "code_hash")
TEXT_MAX = 300


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Drop what is named like a secret and cut what is long; the last line of defence, not the first."""
    for name in [name for name in event if any(secret in name.lower() for secret in SECRET_NAMES)]:
        del event[name]
    for name, value in event.items():
        if isinstance(value, str) and name != "exception" and len(value) > TEXT_MAX:
            event[name] = value[:TEXT_MAX]
    return event


def configure(level: int = logging.INFO) -> None:
    """Send every log line of this process, whoever writes it, to standard error as JSON."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
