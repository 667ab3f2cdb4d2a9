"""One job at a time writes a folder: `lease.json`, which its job renews, and others watch.

A lease ends when its job ends. If the job dies instead, another job takes the lease over: at once
if the job was a process of this machine, which no longer exists, and else when the lease has not
changed for its expiry by the clock of the watcher. The clocks of two machines are never compared.

A job on workers of a cluster may outlive the command that submitted it. Its workers renew the lease
too, and stop when it is lost.
"""

import contextlib
import dataclasses
import datetime
import functools
import os
import random
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from features.code_version import code_version
from features.contracts import folders
from features.errors import ContractError, FolderTakenError
from features.storage import files
from features.terminal import duration
from features.typed_json import Document

# Until a job that stopped renewing counts as dead: of a process, and of workers of a cluster, which
# renew less often because each of them looks at the lease.
EXPIRY_SECONDS, CLUSTER_EXPIRY_SECONDS = 60.0, 300.0
# Renewals within an expiry, so that some may fail or come late.
_BEATS = 6
_LOOKS_PER_BEAT = 5
# Names the owner to processes that work for it.
_VARIABLE = "SOUNDTRACK_LEASE"
_EMPLOYER = os.environ.get(_VARIABLE)
_PROC = Path("/proc")


@dataclasses.dataclass(frozen=True)
class LocalProcess:
    """A process that the other processes of its machine can look up.

    Attributes:
      boot: of the machine; another after each start.
      namespace: in which the process has its number: that of a container.
      number: of the process.
      started: clock ticks after the boot, since numbers are used again.
    """

    boot: str
    namespace: str
    number: int
    started: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lease(Document):
    """`lease.json` in a folder that a job writes.

    Attributes:
      owner: random name of the job.
      beat: number of renewals.
      expiry_seconds: time without renewal after which the job counts as dead.
      queue_seconds: more time, until the first worker of a submitted job renews the lease.
      command: of the job.
      code: version of the code of the job.
      host: name of the machine of the command.
      process: of the command; None if the job may outlive it, or where there is no /proc.
      started, renewed: ISO 8601 in UTC, by the clocks of the writers; for people alone.
    """

    FILE: ClassVar[str] = "lease.json"
    MAKER: ClassVar[str] = "the same command"

    owner: str
    beat: int
    expiry_seconds: float
    command: str
    code: str
    host: str
    process: LocalProcess | None
    started: str
    renewed: str
    queue_seconds: float = 0.0

    @property
    def dead_after_seconds(self) -> float:
        """Time without renewal after which another job takes the lease over."""
        return self.expiry_seconds + self.queue_seconds

    @property
    def beat_seconds(self) -> float:
        """Time between two renewals."""
        return self.expiry_seconds / _BEATS

    def renew(self) -> "Lease":
        """The next lease of the same owner."""
        return dataclasses.replace(self, beat=self.beat + 1, renewed=_now(), queue_seconds=0.0)

    def is_running(self) -> bool | None:
        """Whether the process exists; None if that cannot be seen from here."""
        here = _this_process()
        if self.process is None or here is None:
            return None
        if (self.process.boot, self.process.namespace) != (here.boot, here.namespace):
            return None
        try:
            return _start_of(self.process.number) == self.process.started
        except OSError:
            return None

    def __str__(self) -> str:
        return f"`{self.command}` on {self.host}, since {self.started}"


def find_lease(folder: str) -> Lease | None:
    """The lease of a folder, whether its job is alive or not; None if there is none.

    Raises:
      FolderTakenError: it is of another version.
    """
    return _parse(files.read_exchanged(_path(folder)), folder)


class Holder:
    """The lease that this process holds, renewed by a thread.

    Attributes:
      folder: the folder.
      owner: as in `Lease`.
    """

    def __init__(self, folder: str, lease: Lease):
        self.folder, self.owner = folder, lease.owner
        self._lease = lease
        self._stop, self._lost, self._is_left = threading.Event(), threading.Event(), False
        if (
            signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            and threading.current_thread() is threading.main_thread()
        ):
            # As a shell script has it for what it starts with &. The loss of the lease stops the
            # job by this signal.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of processes that work for this one, so that they need no lease."""
        return {_VARIABLE: self.owner}

    def leave_to_workers(self, queue_seconds: float) -> None:
        """Let the workers renew the lease from now on.

        Args:
          queue_seconds: until the first of them has started.
        """
        self._is_left = True
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # then it expires early
            self._replace(dataclasses.replace(self._lease.renew(), queue_seconds=queue_seconds))

    def release(self) -> None:
        """Delete the lease, unless it is left to the workers or lost."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # then it expires
            # A worker may renew the lease in between.
            while not self._is_left and self._replace(None):
                pass

    def require_held(self) -> None:
        """Raise an error if another job has taken the lease over.

        Raises:
          FolderTakenError: it has.
        """
        if self._lost.is_set():
            raise _lost(self.folder)

    def _beat(self) -> None:
        while not self._stop.wait(self._lease.beat_seconds):
            try:
                held = self._replace(self._lease.renew())
            except OSError:
                continue  # the next beat tries again
            if not held:
                self._lost.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return

    def _replace(self, lease: Lease | None) -> bool:
        """Replace the lease; returns whether this job has one then, by itself or by a worker."""
        new = None if lease is None else lease.to_json()
        content = files.exchange(_path(self.folder), self._lease.to_json(), new)
        found = _find_own(content, self.folder, self.owner)
        if found is not None:
            self._lease = found
        return found is not None


class Member:
    """A worker of the job that holds a lease: renews it if nobody else does, and sees its loss.

    All workers look, and renew after random times, so that about one of them does.
    """

    def __init__(self, folder: str, owner: str):
        self._folder, self._owner = folder, owner
        self._is_lost = False
        threading.Thread(target=self._watch, daemon=True).start()

    def require_held(self) -> None:
        """Raise an error if another job has taken the lease over, or the job has ended.

        Raises:
          FolderTakenError: it has.
        """
        if self._is_lost:
            raise _lost(self._folder)

    def _watch(self) -> None:
        seen, changed_at, pause = b"", time.monotonic(), 1.0
        while True:
            with contextlib.suppress(OSError):  # the next look tries again
                content = files.read_exchanged(_path(self._folder))
                lease = _find_own(content, self._folder, self._owner)
                if content is None or lease is None:
                    self._is_lost = True
                    return
                pause = lease.beat_seconds / _LOOKS_PER_BEAT
                if content != seen:
                    seen, changed_at = content, time.monotonic()
                    wait = lease.beat_seconds * (1 + random.random())
                elif time.monotonic() - changed_at > wait:
                    files.exchange(_path(self._folder), content, lease.renew().to_json())
            time.sleep(pause)


@functools.cache
def join(folder: str, owner: str) -> Member:
    """Make this process a worker of the job that holds a lease."""
    return Member(folder, owner)


@contextlib.contextmanager
def hold(
    folder: str,
    *,
    wait: bool = False,
    on_cluster: bool = False,
    expiry_seconds: float | None = None,
) -> Iterator[Holder | None]:
    """Hold the lease of a folder while the block runs.

    Args:
      folder: exists, and can be written.
      wait: wait for a job that has the folder.
      on_cluster: whether workers that may outlive this process renew the lease too.
      expiry_seconds: as in `Lease`; None for the default.

    Yields:
      The holder; None if the process works for a job that holds the lease, or the filesystem has
      no conditional writes, which is printed.

    Raises:
      FolderTakenError: another job has the folder, or has taken it over from this one.
    """
    default = CLUSTER_EXPIRY_SECONDS if on_cluster else EXPIRY_SECONDS
    lease = Lease(
        owner=uuid.uuid4().hex,
        beat=0,
        expiry_seconds=expiry_seconds or default,
        command=folders.made_by().command,
        code=code_version(),
        host=socket.gethostname(),
        process=None if on_cluster else _this_process(),
        started=_now(),
        renewed=_now(),
    )
    try:
        acquired = _acquire(folder, lease, wait=wait)
    except files.NoExchangeError as error:
        print(f"warning: two jobs at once would not be noticed, {error}", file=sys.stderr)
        acquired = False
    if not acquired:
        yield None
        return
    holder = Holder(folder, lease)
    try:
        yield holder
    finally:
        holder.release()
        # In place of the interrupt of the block, which the block may also have made a result of.
        holder.require_held()


def _acquire(folder: str, lease: Lease, *, wait: bool) -> bool:
    """Take the lease of a folder; returns False if the job that this process works for has it.

    Raises:
      FolderTakenError: another job has it, and `wait` is not set.
    """
    path, new = _path(folder), lease.to_json()
    expected = seen = None
    owner, changed_at = "", time.monotonic()
    while (content := files.exchange(path, expected, new)) != new:
        found, expected = _parse(content, folder), None
        if found is None:
            continue  # released just now
        if found.owner == _EMPLOYER:
            return False
        running = found.is_running()
        if running or (seen is not None and content != seen):
            if not wait:
                raise FolderTakenError(
                    f"{folder} is written by {found}; wait for it, with --wait-for-lease, or stop "
                    "it there"
                )
            running = True
        if content != seen:
            seen, changed_at = content, time.monotonic()
        if found.owner != owner:
            owner = found.owner
            _say(found, folder, running=running)
        if running is False or time.monotonic() - changed_at > found.dead_after_seconds:
            expected = content
        else:
            time.sleep(found.beat_seconds / _LOOKS_PER_BEAT)
    return True


def _say(lease: Lease, folder: str, *, running: bool | None) -> None:
    if running is False:
        text = f"taking over the lease of {lease}, which has ended"
    elif running:
        text = f"waiting for {lease}"
    else:
        limit = duration(lease.dead_after_seconds)
        text = f"looking for up to {limit} whether {lease} is still alive"
    print(f"{folder}: {text}", file=sys.stderr)


def _lost(folder: str) -> FolderTakenError:
    return FolderTakenError(
        f"{folder}: this job did not renew its lease in time, and another job took it over or it "
        "was deleted; finished work is kept: wait for the other job, or run the same command later"
    )


def _path(folder: str) -> str:
    return files.join(folder, Lease.FILE)


def _parse(content: bytes | None, folder: str) -> Lease | None:
    if content is None:
        return None
    try:
        return Lease.from_json(content, _path(folder))
    except ContractError as error:
        raise FolderTakenError(
            f"{_path(folder)} is of another version, whose job may be at work ({error}): if its "
            "job has ended, delete the file and run the same command again"
        ) from error


def _find_own(content: bytes | None, folder: str, owner: str) -> Lease | None:
    """The lease, if this owner has it; a job of another version may have taken it over."""
    with contextlib.suppress(FolderTakenError):
        found = _parse(content, folder)
        if found is not None and found.owner == owner:
            return found
    return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def _boot_and_namespace() -> tuple[str, str] | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return boot, str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None


def _this_process() -> LocalProcess | None:
    place = _boot_and_namespace()
    if place is None:
        return None
    started = _start_of(os.getpid())
    return LocalProcess(*place, os.getpid(), started) if started else None


def _start_of(number: int) -> str | None:
    """When a process started, in clock ticks after the boot; None if it has ended.

    Raises:
      OSError: it exists, and cannot be seen: /proc may hide the processes of other users (hidepid).
    """
    try:
        status = (_PROC / str(number) / "stat").read_text()
    except OSError:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return None
        raise
    # The name, in parentheses, may hold anything. Then come fields 3, the state, to 22, the start.
    state, *fields = status.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[18]
