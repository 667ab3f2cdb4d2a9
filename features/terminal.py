"""Terminal output that commands share: status line, usage, durations, closing report."""

import sys
import textwrap
import time
from collections.abc import Mapping

_TERMINAL_SECONDS, _LOG_SECONDS = 1.0, 15.0
_COLUMNS = 79
_USAGE_INDENT = " " * 11


class StatusLine:
    """A line on stderr: rewritten in place on a terminal, repeated every 15 s in a log."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self.every_seconds = _TERMINAL_SECONDS if self._terminal else _LOG_SECONDS
        self._shown_at = time.monotonic()
        self._shown = False

    @property
    def due(self) -> bool:
        """Whether the line should be updated."""
        return time.monotonic() >= self._shown_at + self.every_seconds

    def show(self, text: str) -> None:
        """Show `text` in place of the previous text."""
        if self._terminal:
            print(f"\r{text:<{_COLUMNS}}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
        self._shown_at, self._shown = time.monotonic(), True

    def close(self) -> None:
        """End the line, so that later output starts on its own line."""
        if self._terminal and self._shown:
            print(file=sys.stderr)


def usage(required: str) -> str:
    """The usage line of a command for argparse: its name, and below it the required flags.

    argparse prints the usage above every error, and all flags would fill a page.

    Args:
      required: lines of flags.
    """
    return "%(prog)s\n" + textwrap.indent(f"{required} [options]", _USAGE_INDENT)


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes, hours or days."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def clock(seconds: float) -> str:
    """Format a time in a soundtrack, for example "4:36.0"."""
    minutes, rest = divmod(float(seconds), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def report(counts: str, rejects: Mapping[str, int], output: str) -> None:
    """Print the closing lines of a job: its counts, the rejects by reason, the output folder."""
    print(counts)
    for reason, count in rejects.items():
        print(f"  rejected: {count} {reason}")
    print(f"wrote {output}")
