"""The privileges of a container as Docker's clients ask for them in ``HostConfig`` [CTR-11, CTR-12]."""

from __future__ import annotations

from collections.abc import Iterable

from pybuild.containers.order import ContainerPrivileges
from pybuild.containers.privileges import (
    capabilities,
    device,
    gpus,
    has_own_namespace,
    oom_score_adj,
    security_opts,
    sysctls,
)
from pybuild.daemon.rest.fields import Fields
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.jsontext import as_list

_GPU_DRIVERS = ("", "nvidia")
_GPU = "gpu"


def privileges_of(host: Fields, network: str, *, own_ipc: bool) -> ContainerPrivileges:
    """Read them.

    Args:
        network: the network mode of the container.

    Raises:
        ApiRefusal, UsageError: one of them is wrong, or cannot be had.
    """
    pairs = (f"{name}={value}" for name, value in host.pairs("Sysctls").items())
    return ContainerPrivileges(
        privileged=host.flag("Privileged"),
        cap_add=capabilities(host.texts("CapAdd") or (), "CapAdd"),
        cap_drop=capabilities(host.texts("CapDrop") or (), "CapDrop"),
        security_opts=security_opts(host.texts("SecurityOpt") or ()),
        devices=tuple(_devices(host.parts("Devices"))),
        cdi=tuple(_requested(host.parts("DeviceRequests"))),
        groups=host.texts("GroupAdd") or (),
        oom_score_adj=oom_score_adj(host.number("OomScoreAdj")),
        sysctls=sysctls(pairs, own_network=has_own_namespace(network), own_ipc=own_ipc),
    )


def _devices(devices: Iterable[Fields]) -> Iterable[tuple[str, str, str]]:
    for one in devices:
        here = one.text("PathOnHost")
        there = one.text("PathInContainer") or here
        yield device(f"{here}:{there}:{one.text('CgroupPermissions') or 'rwm'}")


def _requested(requests: Iterable[Fields]) -> Iterable[str]:
    """Return the names in CDI's files of what is asked for by name, by number, or as GPUs."""
    for one in requests:
        driver, ids = one.text("Driver"), one.texts("DeviceIDs") or ()
        if driver == "cdi":
            yield from ids
        elif driver in _GPU_DRIVERS and _is_gpu(one):
            yield from gpus(f"device={','.join(ids)}" if ids else str(one.number("Count")))
        else:
            raise ApiRefusal(
                400, f'could not select device driver "{driver}": there are cdi and nvidia'
            )


def _is_gpu(request: Fields) -> bool:
    """Return whether one of the alternatives asks for a GPU."""
    alternatives = as_list(request.whole().get("capabilities"))
    return not alternatives or any(_GPU in as_list(one) for one in alternatives)
