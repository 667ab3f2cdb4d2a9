"""The processes that train together, and the role of this process: `TF_CONFIG`, `CLUSTER_SPEC`."""

import dataclasses
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from features.contracts import folders
from features.contracts.documents import Run
from features.errors import InputError
from training.distributed.watchdog import LostPeerError, Watchdog, is_listening, wait_for_address

VARIABLE = "TF_CONFIG"
# Of Vertex AI, which names pools of machines by their place in the job instead of roles.
POOLS_VARIABLE = "CLUSTER_SPEC"
CHIEF, WORKER, PARAMETER_SERVER, EVALUATOR = "chief", "worker", "ps", "evaluator"
_POOLS = {
    f"workerpool{place}": role
    for place, role in enumerate((CHIEF, WORKER, PARAMETER_SERVER, EVALUATOR))
}
_EXAMPLE = (
    '{"cluster": {"chief": ["host0:2222"], "worker": ["host1:2222"], "ps": ["host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run.

    With parameter servers training is asynchronous: `chief`, `worker`, `ps`. Without them the
    workers share every mini-batch, and the first worker is the chief. An `evaluator` only reads
    checkpoints and is not a member of the cluster (as a member it can hang the coordinator).

    Attributes:
      addresses: role -> host:port of each process.
      role: of this process.
      index: of this process among those of its role.
    """

    addresses: Mapping[str, tuple[str, ...]]
    role: str
    index: int

    @property
    def asynchronous(self) -> bool:
        """Whether there are parameter servers."""
        return PARAMETER_SERVER in self.addresses

    @property
    def address(self) -> str:
        """The host:port of this process."""
        return self.addresses[self.role][self.index]

    @property
    def num_workers(self) -> int:
        """The number of workers."""
        return len(self.addresses[WORKER])

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run."""
        return self.role == CHIEF or (
            not self.asynchronous and (self.role, self.index) == (WORKER, 0)
        )

    def to_tf_config(self) -> str:
        """The text of `TF_CONFIG`."""
        task = {"type": self.role, "index": self.index}
        return json.dumps({"cluster": self.addresses, "task": task})

    def resolver(self) -> tf.distribute.cluster_resolver.ClusterResolver:
        """The cluster as TensorFlow takes it."""
        return tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({role: list(at) for role, at in self.addresses.items()}),
            task_type=self.role,
            task_id=self.index,
            rpc_layer="grpc",
        )


def cluster_of_environment() -> Cluster | None:
    """The cluster that `TF_CONFIG` describes, or else `CLUSTER_SPEC`; None if neither is set.

    Raises:
      InputError: the value is not a valid cluster.
    """
    name = VARIABLE if os.environ.get(VARIABLE) else POOLS_VARIABLE
    text = os.environ.get(name)
    if not text:
        return None
    try:
        document = json.loads(text)
        addresses = {_POOLS.get(role, role): tuple(at) for role, at in document["cluster"].items()}
        role, index = document["task"]["type"], int(document["task"]["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} is {text!r} ({error!r}); expected as {_EXAMPLE}") from error
    cluster = _place_chief(Cluster(addresses, _POOLS.get(role, role), index))
    problem = _problem(cluster)
    if problem:
        raise InputError(f"{name} is {text!r}: {problem}; expected as {_EXAMPLE}")
    return cluster


def _place_chief(cluster: Cluster) -> Cluster:
    """The cluster with the roles of `Cluster`, whatever its platform calls them.

    Platforms may list the evaluator, and a chief where there are no parameter servers: that is the
    first worker, and the numbers of the others rise.
    """
    addresses = {role: at for role, at in cluster.addresses.items() if role != EVALUATOR and at}
    if PARAMETER_SERVER in addresses or CHIEF not in addresses:
        return dataclasses.replace(cluster, addresses=addresses)
    chief, others = addresses[CHIEF], addresses.get(WORKER, ())
    index = cluster.index + len(chief) if cluster.role == WORKER else cluster.index
    role = WORKER if cluster.role == CHIEF else cluster.role
    addresses = {name: at for name, at in addresses.items() if name not in (CHIEF, WORKER)}
    return Cluster({**addresses, WORKER: chief + others}, role, index)


def _problem(cluster: Cluster) -> str | None:
    roles = set(cluster.addresses)
    wanted = {CHIEF, WORKER, PARAMETER_SERVER} if cluster.asynchronous else {WORKER}
    if roles != wanted:
        return f"the roles of a cluster are {sorted(wanted)}, and not {sorted(roles)}"
    if any(":" not in at for role in roles for at in cluster.addresses[role]):
        return "an address is host:port"
    if cluster.role == EVALUATOR:
        return None
    if cluster.role not in roles or not 0 <= cluster.index < len(cluster.addresses[cluster.role]):
        return f"there is no task {cluster.role} {cluster.index}"
    return None


def require_free_port(address: str) -> None:
    """Make sure that nothing listens at the port of this process; gRPC would share the port.

    Raises:
      InputError: the port is in use.
    """
    port = int(address.rsplit(":", 1)[1])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise InputError(
                f"port {port} of this machine is not free ({error}); end the process that "
                f"listens there, or give {address} another port in {VARIABLE} of every process"
            ) from error


def meet(cluster: Cluster, seconds: float) -> None:
    """Wait until all workers that share mini-batches are there.

    TensorFlow would wait for them too, but without a time limit and holding Python's lock.

    Raises:
      LostPeerError: a worker is not there after `seconds`.
    """
    port = int(cluster.address.rsplit(":", 1)[1])
    with socket.create_server(("", port), backlog=4_096):  # where the others look for this process
        for index, address in enumerate(cluster.addresses[WORKER]):
            wait_for_address(address, f"worker {index}", seconds)


def serve(cluster: Cluster, output: str, seconds: float) -> None:
    """Run as a worker or a parameter server until the chief has finished the run.

    Args:
      cluster: with the role of this process.
      output: folder of the run.
      seconds: how long to wait for an absent chief.

    Raises:
      LostPeerError: the chief was absent for that long.
    """
    with Watchdog(seconds):  # ends this process with its supervisor
        _serve(cluster, output, seconds)


def _serve(cluster: Cluster, output: str, seconds: float) -> None:
    server: Any = tf.distribute.Server(
        tf.train.ClusterSpec({role: list(at) for role, at in cluster.addresses.items()}),
        job_name=cluster.role,
        task_index=cluster.index,
        protocol="grpc",
    )
    (chief,) = cluster.addresses[CHIEF]
    seen_at, was_seen = time.monotonic(), False
    while True:
        if is_listening(chief):
            seen_at, was_seen = time.monotonic(), True
        elif was_seen and folders.find_document(output, Run):
            return
        elif time.monotonic() > seen_at + seconds:
            raise LostPeerError(
                f"{cluster.role} {cluster.index} ({server.target}): no chief at {chief} for "
                f"{seconds:.0f} s; start it there, then run the same command again"
            )
        time.sleep(1)
