"""The gateway's log: a line of JSON for each thing that is told, on stderr."""

from __future__ import annotations

import logging

import orjson

from warmd.http.moments import moment, now

FACTS = "facts"
"""What a record has besides its message: `log.info("request", extra={FACTS: {...}})`."""


class JsonLines(logging.Formatter):
    """`time`, the record's facts, and for all but requests `level`, `message`, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        told = {"time": moment(now()), **getattr(record, FACTS, {})}
        if record.levelno > logging.INFO or FACTS not in record.__dict__:
            told |= {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return orjson.dumps(told, default=str).decode()


def set_up(level: str) -> None:
    """Also uvicorn's own, of which only warnings matter, and those not of streams that were cut."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, least in (("warmd.http", level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut)


def _is_no_cut(record: logging.LogRecord) -> bool:
    """uvicorn complains of an answer without an end, which is how a stream is cut."""
    return "returned without completing response" not in record.getMessage()
