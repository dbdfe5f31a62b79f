"""Which network learners talk over. It knows no paper."""

import os
import socket

import psutil  # type: ignore[import-untyped]
import ray


def use_node_interface() -> None:
    """Let gloo talk over the interface of this node's address in the cluster, unless GLOO_SOCKET_IFNAME is set.

    Without it gloo takes the address of the host's name. That is often a loopback address, as Debian's installer
    writes it (127.0.1.1), or one that other nodes do not reach.
    """
    if "GLOO_SOCKET_IFNAME" not in os.environ and (name := _interface_of(ray.util.get_node_ip_address())):
        os.environ["GLOO_SOCKET_IFNAME"] = name


def _interface_of(address: str) -> str:
    """The name of the interface with this address; empty where there is none."""
    families = (socket.AF_INET, socket.AF_INET6)
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.family in families and one.address.partition("%")[0] == address for one in addresses):
            return str(name)
    return ""
