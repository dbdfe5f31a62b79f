"""Everything that this project takes from Ray's private modules, and why. No other file imports a private name.

A new version of Ray may move these without notice: this is the one file to change then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ray._common.utils import get_default_system_temp_dir
from ray._private import worker
from ray._private.state import actors as actor_table
from ray._private.state import state as cluster_state
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.actor import ActorHandle
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.torch.config import _TorchBackend
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import autoscaling_coordinator_client

from pipeline.distributed.network import use_node_interface

autoscaling_coordinator_client.AUTOSCALING_REQUESTS_EXPIRE_TIME_S = 40
"""Seconds for which the learners' resources stay reserved after a controller has fallen silent; it renews every 20 s.

Ray has 180: a range of learners would wait three minutes for those of a command that was killed. Each controller reads
this module with its `LearnerConfig`.
"""
autoscaling_coordinator_client.AUTOSCALING_REQUESTS_GET_TIMEOUT_S = 30
"""Seconds that a controller waits for the actor that reserves resources, which has to start first.

Ray has 5, and prints a traceback where a busy machine takes longer.
"""


def restart_count(handles: Sequence[ActorHandle]) -> int:
    """How often Ray has restarted these actors so far, all together.

    Ray counts the restarts of each actor. `ray.util.state.list_actors` shows them, but it asks the dashboard, which not
    every cluster runs. The key of the table is the actor's id, which a handle has no public name for.
    """
    return sum(actor_table(handle._actor_id.hex()).get("NumRestarts", 0) for handle in handles)


def actor_nodes(handles: Sequence[ActorHandle]) -> list[str]:
    """The id of the node where each of these actors is, or was last; empty for one that has no node yet.

    An actor could be asked, but one that hangs, or waits for a machine, would not answer.
    """
    return [actor_table(handle._actor_id.hex()).get("Address", {}).get("NodeID", "") for handle in handles]


def max_cluster_resources() -> dict[str, float] | None:
    """What the cluster has once it has added all machines that its configuration allows; None if it adds none.

    `ray.cluster_resources` and `ray.nodes` know only the machines that are there now. There is no public way to read
    how far an autoscaling cluster grows, so without this a job could not tell "wait" from "it will never fit".
    """
    resources: dict[str, float] | None = cluster_state.get_max_resources_from_cluster_config()
    return resources


def free_resources() -> dict[str, dict[str, float]]:
    """What each living node has left, by its id; `ray.available_resources` adds them up."""
    free: dict[str, dict[str, float]] = cluster_state.available_resources_per_node()
    return free


class AutoscalerAnswer(NamedTuple):
    """What the autoscaler, of Ray's version 2, has said."""

    asked: int
    """Version of the cluster's state, which rises with each request."""
    answered: int
    """The version that the autoscaler has looked at last."""
    refused: bool
    """Whether it cannot add machines for what was requested then."""


def autoscaler_answer(gcs_address: str, seconds: float) -> AutoscalerAnswer | None:
    """What the cluster's autoscaler has said; None where none is at work, or one of Ray's version 1.

    `ray status` prints it, for people. The autoscaler does not say how far it can grow, only whether it can meet a
    request. Where nothing adds machines, as after a plain `ray start --head`, it refuses what does not fit.
    """
    reply = GetClusterStatusReply.FromString(GcsClient(gcs_address).get_cluster_status(timeout_s=seconds))
    state = reply.autoscaling_state
    if not state.autoscaler_state_version:
        return None
    asked, answered = (
        reply.cluster_resource_state.cluster_resource_state_version,
        state.last_seen_cluster_resource_state_version,
    )
    return AutoscalerAnswer(asked, answered, bool(state.infeasible_cluster_resource_constraints))


def default_temporary_folder() -> str:
    """Where Ray keeps the files and sockets of a cluster that it starts; its public settings do not say it."""
    folder: str = get_default_system_temp_dir()
    return folder


def has_dead_processes() -> bool:
    """Whether a process of the Ray that this one has started is gone: its raylet, or its GCS.

    Ray itself ends this process without a word a minute after the GCS has gone, and lets calls hang until then.
    """
    node = worker._global_node
    return node is not None and any(kind in ("raylet", "gcs_server") for kind, _ in node.dead_processes())


class Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray Train without its detached actor that looks, by way of the dashboard, whether the controller is alive.

    Where two Rays run on one machine it finds neither, and prints tracebacks. GCS removes the placement group of a
    controller that has died anyway, since this one is not detached.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback)]


class _NodeInterfaceBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(use_node_interface)
        super().on_start(worker_group, backend_config)


@dataclass
class LearnerConfig(TorchConfig):  # type: ignore[misc]
    """Ray Train's process group, over the interfaces of the nodes' addresses in the cluster.

    The interface has its own name on each host, and must be set before Ray makes the group, which has no public hook.
    """

    @property
    def backend_cls(self) -> type:
        """What makes the group."""
        return _NodeInterfaceBackend
