"""Result of a check: what it found, how bad that is, and what to do."""

import dataclasses
import enum
import threading
from collections.abc import Callable


class Level(enum.StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"  # a job would run, slower or elsewhere than expected
    PROBLEM = "problem"  # a job would fail, or give wrong results


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of a check.

    Attributes:
      check: name of the check.
      level: severity.
      found: what was found, with numbers.
      cure: what to do; empty if nothing has to be done.
    """

    check: str
    level: Level
    found: str
    cure: str = ""


def ok(check: str, found: str) -> Finding:
    """Make a finding that needs no action."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, cure: str) -> Finding:
    """Make a finding for a job that would run, slower or elsewhere than expected."""
    return Finding(check, Level.WARNING, found, cure)


def problem(check: str, found: str, cure: str) -> Finding:
    """Make a finding for a job that would fail, or give wrong results."""
    return Finding(check, Level.PROBLEM, found, cure)


def examine(name: str, check: Callable[[], Finding], limit_seconds: float) -> Finding:
    """Run a check; a check that raises or exceeds the time limit is a problem, not an exception.

    A check that exceeds the limit stays in a thread that ends with this process.
    """
    answers: list[Finding] = []

    def run() -> None:
        try:
            answers.append(check())
        except Exception as error:  # noqa: BLE001 - becomes a finding
            found = f"the check failed with {type(error).__name__}: {error}"
            answers.append(
                problem(name, found, "see the message; if an import failed, install again")
            )

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_seconds)
    if answers:
        return answers[0]
    return problem(
        name,
        f"no answer within {limit_seconds:g} s",
        "see whether the network, a proxy or a mount hangs; --limit-seconds waits longer",
    )
