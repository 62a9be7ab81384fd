"""Options of ``run`` and ``create`` about privileges, as a part of a container's config."""

from __future__ import annotations

from pybuild.commandline.parser import Parsed
from pybuild.containers.namespaces import check_namespaces
from pybuild.containers.order import ContainerNamespaces, ContainerPrivileges
from pybuild.containers.privileges import (
    capabilities,
    device,
    gpus,
    oom_score_adj,
    security_opts,
    sysctls,
)
from pybuild.model.errors import UsageError


def privileges_of(parsed: Parsed, *, own_network: bool, own_ipc: bool) -> ContainerPrivileges:
    """Read them [CTR-11, CTR-12].

    Raises:
        UsageError: one of them is wrong.
    """
    paths = [text for text in parsed.many("device") if text.startswith("/")]
    named = [text for text in parsed.many("device") if not text.startswith("/")]
    for text in named:
        if "/" not in text or "=" not in text:
            device(text)  # which says what a device looks like
    return ContainerPrivileges(
        privileged=parsed.flag("privileged"),
        cap_add=capabilities(parsed.many("cap-add"), "CapAdd"),
        cap_drop=capabilities(parsed.many("cap-drop"), "CapDrop"),
        security_opts=security_opts(parsed.many("security-opt")),
        devices=tuple(map(device, paths)),
        cdi=(*named, *(name for text in parsed.many("gpus") for name in gpus(text))),
        groups=tuple(parsed.many("group-add")),
        oom_score_adj=_score(parsed.one("oom-score-adj")),
        sysctls=sysctls(parsed.many("sysctl"), own_network=own_network, own_ipc=own_ipc),
    )


def namespaces_of(parsed: Parsed) -> ContainerNamespaces:
    """Read the namespaces that it has together with others [CTR-15].

    Raises:
        UsageError: there is no such mode.
    """
    names = ("ipc", "pid", "uts", "cgroupns", "userns")
    return check_namespaces(ContainerNamespaces(*map(parsed.one, names)))


def _score(text: str) -> int:
    if text and not text.removeprefix("-").isdecimal():
        raise UsageError(f"invalid --oom-score-adj {text}: -1000 to 1000")
    return oom_score_adj(int(text or 0))
