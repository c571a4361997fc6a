"""JSON log lines on standard error: event, level, time, service, request id, user (a pseudonym), and what the caller adds."""

from __future__ import annotations

import logging
import sys

import structlog

from langptune.rpc.pseudonyms import use_key, without_user


def configure_logs(service: str, level: str = "info", key: str = "") -> None:
    """Send this process's logs, the standard library's included, through structlog as one JSON object a line.

    `key` is what user ids are hashed with; "" makes one for this process.
    """
    use_key(key)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _name, event: {"service": service, **event},
        structlog.processors.format_exc_info,
        without_user,
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
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "sentence_transformers", "transformers", "grpc", "asyncio", "filelock", "urllib3"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
