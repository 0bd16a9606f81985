"""The log of the service: one line of JSON for every event."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger("crossprop.service")


def event(text: str, level: int = logging.INFO, *, exc_info: bool = False, **fields: Any) -> None:
    """Log an event with its fields."""
    log.log(level, text, extra={"fields": fields}, exc_info=exc_info)


def log_as_json() -> None:
    """Write what the service and uvicorn log to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name, level in (("crossprop.service", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
