"""Logs: one line per event, with service, request id, trace id and tenant, never with a token.

Everything that the standard library logs goes the same way.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gathering_mesh.call import new_trace

REDACTED = "[redacted]"
_SECRET_NAMES = re.compile(
    r"token|authorization|password|secret|api_?key|cookie|credential|\bdsn\b|database_url", re.I
)
_SECRETS = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JSON Web Token
    r"|(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"  # user and password in a URL
)
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_PLAIN = (bool, int, float, type(None))
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(service: str, level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging for this process."""
    out = stream or sys.stderr
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
    ]
    last: list[Processor] = [structlog.processors.format_exc_info, redact, _renderer(as_json, out)]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # a later configure() takes effect everywhere
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*first, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=_foreign_level(level), force=True)
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)  # logs every request otherwise


def _foreign_level(level: str) -> int:
    """Libraries at debug drown what this process says itself."""
    return max(_LEVELS[level], logging.INFO)


def _renderer(as_json: bool, out: TextIO) -> Processor:
    if as_json:
        return structlog.processors.JSONRenderer(sort_keys=False, default=repr)
    return structlog.dev.ConsoleRenderer(colors=out.isatty())


def _named(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return add


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace whatever is named like a secret or looks like one, at any depth."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if _named_like_a_secret(key):
        return REDACTED
    return _clean(value)


@functools.lru_cache(maxsize=1024)
def _named_like_a_secret(key: str) -> bool:
    return _SECRET_NAMES.search(key) is not None


def _without_secrets(text: str) -> str:
    # Most texts hold none of what every secret's look begins with, and this runs for each line.
    if "eyJ" in text or "://" in text or "earer" in text or "EARER" in text:
        return _SECRETS.sub(REDACTED, text)
    return text


def _clean(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return _without_secrets(value)
    if isinstance(value, dict):
        return {str(key): _redacted(str(key), one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(one) for one in value]
    return _without_secrets(repr(value))


def child_trace(parent: str | None) -> str:
    """Return the traceparent of a new span: of the caller's trace, or of a new one."""
    fresh = new_trace()
    found = _TRACEPARENT.fullmatch(parent) if parent else None
    if found is None or set(found[1]) == {"0"} or set(found[2]) == {"0"}:
        return fresh
    return f"00-{found[1]}-{fresh[36:52]}-{found[3]}"


def trace_id(trace: str) -> str:
    """Return the trace id of a traceparent."""
    return trace[3:35]


def bind(**values: object) -> None:
    """Add values to every line that this task logs from now on; empty ones are left out."""
    structlog.contextvars.bind_contextvars(**{k: v for k, v in values.items() if v})
