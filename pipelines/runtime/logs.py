"""`--verbose` and `--log-format`: the log of a job on stderr, for people or for Cloud Logging."""

import argparse
import json
import logging
import time
from typing import Any

# Modules of the jobs write their lines with loggers below these.
_LOGGERS = ("features", "pipelines", "evaluation")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the log to a command."""
    parser.add_argument(
        "--verbose", action="store_true", help="log a line for each stage and shard to stderr"
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="of --verbose: json has a JSON object a line, with the fields of Cloud Logging; "
        "default: text",
    )


def configure(*, verbose: bool, log_format: str) -> None:
    """Write the lines of our modules to stderr, from level INFO with `verbose`, else WARNING.

    Workers of Flink and Dataflow send their lines through Beam, with Beam's own level.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO if verbose else logging.WARNING)
        logger.propagate = False  # Beam's handler would write the line again


class _TextFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")


class _JsonFormatter(_TextFormatter):
    """The fields that Cloud Logging takes from a line of JSON, and the counts of the line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "severity": record.levelname,
            "time": self.formatTime(record, self.datefmt),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["message"] += "\n" + self.formatException(record.exc_info)
        return json.dumps(fields)
