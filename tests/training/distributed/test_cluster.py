import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.errors import InputError
from training.distributed.cluster import (
    POOLS_VARIABLE,
    VARIABLE,
    cluster_of_environment,
    require_free_port,
)
from training.distributed.watchdog import LostPeerError, is_listening, wait_for_address
from training.train import main

ADDRESSES = {"chief": ["localhost:1"], "worker": ["localhost:2", "localhost:3"], "ps": ["h:4"]}


def set_config(monkeypatch: pytest.MonkeyPatch, role: str, index: int, addresses: dict) -> None:
    document = {"cluster": addresses, "task": {"type": role, "index": index}}
    monkeypatch.setenv(VARIABLE, json.dumps(document))


def test_tf_config_says_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cluster_of_environment() is None
    set_config(monkeypatch, "worker", 1, ADDRESSES)
    worker = cluster_of_environment()
    assert worker is not None
    assert worker.asynchronous
    assert not worker.is_chief
    assert (worker.address, worker.num_workers) == ("localhost:3", 2)
    monkeypatch.setenv(VARIABLE, worker.to_tf_config())
    assert cluster_of_environment() == worker
    set_config(monkeypatch, "worker", 0, {"worker": ADDRESSES["worker"]})
    first = cluster_of_environment()
    assert first is not None
    assert first.is_chief
    assert not first.asynchronous


@pytest.mark.parametrize(
    ("role", "index", "addresses", "problem"),
    [
        ("worker", 2, ADDRESSES, "there is no task worker 2"),
        ("master", 0, ADDRESSES, "there is no task master 0"),
        ("worker", 0, {"worker": ["a:1"], "ps": ["b:1"]}, "the roles of a cluster are"),
        ("worker", 0, {"worker": ["a"]}, "an address is host:port"),
    ],
)
def test_tf_config_that_makes_no_sense_is_refused(
    role: str, index: int, addresses: dict, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_config(monkeypatch, role, index, addresses)
    with pytest.raises(InputError, match=problem):
        cluster_of_environment()


# As Vertex AI describes a job of a chief, two workers and an evaluator.
POOLS = {"workerpool0": ["a-0:2222"], "workerpool1": ["b-0:2222", "b-1:2222"]}
EVALUATOR_POOL = {"workerpool3": ["d-0:2222"]}


@pytest.mark.parametrize(
    ("pools", "task", "role", "index", "addresses"),
    [
        (
            {**POOLS, "workerpool2": ["c-0:2222"], **EVALUATOR_POOL},
            ("workerpool2", 0),
            *("ps", 0),
            {
                "chief": ("a-0:2222",),
                "worker": ("b-0:2222", "b-1:2222"),
                "ps": ("c-0:2222",),
            },
        ),
        # Without parameter servers the chief is the first worker.
        (POOLS, ("workerpool0", 0), "worker", 0, {"worker": ("a-0:2222", "b-0:2222", "b-1:2222")}),
        (POOLS, ("workerpool1", 1), "worker", 2, {"worker": ("a-0:2222", "b-0:2222", "b-1:2222")}),
        ({"workerpool0": ["a-0:2222"]}, ("workerpool0", 0), "worker", 0, {"worker": ("a-0:2222",)}),
        (
            {**POOLS, **EVALUATOR_POOL},
            ("workerpool3", 0),
            *("evaluator", 0),
            {"worker": ("a-0:2222", "b-0:2222", "b-1:2222")},
        ),
    ],
)
def test_pools_of_vertex_ai_are_roles(
    pools: dict,
    task: tuple[str, int],
    role: str,
    index: int,
    addresses: dict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = {
        "cluster": pools,
        "environment": "cloud",
        "task": {"type": task[0], "index": task[1], "trial": ""},
        "job": "{}",
    }
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv(POOLS_VARIABLE, json.dumps(spec))
    cluster = cluster_of_environment()

    assert cluster is not None
    assert (cluster.role, cluster.index) == (role, index)
    assert cluster.addresses == addresses
    # With the names of roles in TF_CONFIG, which comes first, the cluster is the same.
    names = dict(zip(sorted(pools), ("chief", "worker", "ps", "evaluator"), strict=False))
    names |= {"workerpool3": "evaluator"}
    set_config(monkeypatch, names[task[0]], task[1], {names[pool]: pools[pool] for pool in pools})
    monkeypatch.setenv(POOLS_VARIABLE, "not read")
    assert cluster_of_environment() == cluster


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {}}'])
def test_tf_config_that_cannot_be_read_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InputError, match=r"TF_CONFIG is .* expected as"):
        cluster_of_environment()


def test_port_in_use_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of this machine is not free"):
            require_free_port(f"localhost:{port}")
        assert is_listening(f"localhost:{port}")
    require_free_port(f"localhost:{port}")
    assert not is_listening(f"localhost:{port}")


def test_process_that_never_appears_is_named() -> None:
    start = time.monotonic()
    with pytest.raises(LostPeerError, match="worker 1 did not appear at localhost:1 within 1 s"):
        wait_for_address("localhost:1", "worker 1", 1)
    assert time.monotonic() - start < 5


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Training takes them for itself."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize(
    ("role", "servers", "message"),
    [
        ("chief", 1, "worker 0 did not appear at localhost"),
        ("ps", 1, "ps 0 .*: no chief at localhost"),
        ("worker", 0, "worker 1 did not appear at localhost"),
    ],
)
def test_no_process_waits_for_ever(
    role: str,
    servers: int,
    message: str,
    features_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports = iter(free_ports(4))
    addresses = {"worker": [f"localhost:{next(ports)}"]}
    if servers:
        addresses |= {"chief": [f"localhost:{next(ports)}"], "ps": [f"localhost:{next(ports)}"]}
    else:
        addresses["worker"].append(f"localhost:{next(ports)}")
    set_config(monkeypatch, role, 0, addresses)
    flags = [f"--features={features_folder}", f"--output={tmp_path}", "--steps=5"]
    with pytest.raises(LostPeerError, match=message) as lost:
        main(["fully_connected", "--wait-seconds=2", *flags])
    assert lost.value.exit_code == 4


def test_flags_of_a_cluster_are_checked(features_folder: Path, tmp_path: Path) -> None:
    flags = ["fully_connected", f"--features={features_folder}", f"--output={tmp_path}"]
    for flag in ("--workers=0", "--parameter-servers=-1", "--devices=0", "--wait-seconds=0"):
        with pytest.raises(InputError, match=flag.split("=")[0]):
            main([*flags, "--cluster=local", flag])
