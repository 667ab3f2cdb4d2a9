"""What a check found, how bad it is, and what to do about it."""

import dataclasses
import enum
import threading
from collections.abc import Callable


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # a job would run, slower or elsewhere than expected
    PROBLEM = "problem"  # a job would fail, or give something wrong


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at.
        level: how bad it is.
        found: what was found, with its numbers.
        cure: what to do; empty where nothing need be done.
    """

    check: str
    level: Level
    found: str
    cure: str = ""


def ok(check: str, found: str) -> Finding:
    """A finding that asks for nothing."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, cure: str) -> Finding:
    """A job would run, slower or elsewhere than expected."""
    return Finding(check, Level.WARNING, found, cure)


def problem(check: str, found: str, cure: str) -> Finding:
    """A job would fail, or give something wrong."""
    return Finding(check, Level.PROBLEM, found, cure)


def examine(name: str, check: Callable[[], Finding], limit_seconds: float) -> Finding:
    """Run a check to its end or its time limit; one that fails is a problem, never an exception.

    What does not answer in time is left behind in a thread that ends with this process.
    """
    answers: list[Finding] = []

    def run() -> None:
        try:
            answers.append(check())
        except Exception as error:  # noqa: BLE001 - what cannot be checked cannot be relied on
            found = f"the check failed with {type(error).__name__}: {error}"
            answers.append(
                problem(name, found, "see the message; if it is an import, install again")
            )

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_seconds)
    if answers:
        return answers[0]
    return problem(
        name,
        f"no answer within {limit_seconds:g} s",
        "look whether the network, a proxy or a mount hangs; --limit-seconds waits longer",
    )
