"""A step as the ``config.json`` of an OCI runtime bundle; pure.

What only the step's own process can know is left to it (`executor.zygote.runtime`): who the user is
in the tree's databases, and which limits this machine really grants. That process also makes the
tree with all that is mounted in it, so that no runtime has to follow a stranger's links, and the
step's control groups, network and /dev; the runtime inherits or binds them.
"""

from __future__ import annotations

import os
from typing import Any

from pybuild.executor.steps.ociruntimes import OciRuntime
from pybuild.executor.steps.seccompnames import profile
from pybuild.executor.steps.spec import ALL_CAPABILITIES, OciOrder, StepSpec
from pybuild.image.runtimespec import CAPABILITIES, DEFAULT_PATH, MASKED, READ_ONLY
from pybuild.model.errors import EnvironmentFault

SPEC_VERSION = "1.0.2"
_LACKS = {
    "userns-single": "a user namespace with one id needs owners of files to be recorded",
    "chroot": "this container may not mount",
}
_HINTS = (
    "leave --runtime away: steps have a sandbox of ours",
    "or run as root, or grant the user ids in /etc/subuid and /etc/subgid",
)


def order(spec: StepSpec, runtime: OciRuntime, rung: str) -> OciOrder:
    """Return the order to have *runtime* run the step, for the step's process.

    Raises:
        EnvironmentFault: no runtime can run steps on this rung of isolation.
    """
    lacks = _LACKS.get(rung)
    if lacks is not None:
        raise EnvironmentFault(f"{runtime.name} cannot run steps here: {lacks}", hints=_HINTS)
    return OciOrder(
        path=runtime.path,
        name=runtime.name,
        options=tuple(runtime.options),
        config=config(spec),
        capabilities=tuple(
            (name, ALL_CAPABILITIES.index(name))
            for name in (ALL_CAPABILITIES if spec.insecure else CAPABILITIES)
        ),
    )


def config(spec: StepSpec) -> dict[str, Any]:
    """Return the configuration of a step whose tree and kernel file systems lie in its work
    directory; ``process`` lacks ``user``, ``capabilities`` and ``rlimits``.
    """
    # A runtime refuses a root that is reached through a link.
    work = os.path.realpath(spec.work)
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
        "resources": {},
    }
    if not spec.insecure:
        linux |= {
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
            "seccomp": profile(os.uname().machine, shares_network=not spec.own_network),
        }
    system = () if spec.insecure else ("ro",)
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": False,
            "args": list(spec.args),
            "env": _environment(spec.env),
            "cwd": spec.cwd,
            "noNewPrivileges": False,  # set-user-id programs such as sudo must work
        },
        "root": {"path": work + "/root", "readonly": spec.readonly},
        "hostname": spec.hostname,
        "mounts": [
            _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            # crun takes away the flags that a bind is not given.
            _mount("/dev", "bind", work + "/oci/dev", "rbind", "nosuid", "strictatime"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount(
                "/sys", "bind", work + "/oci/sys", "rbind", "nosuid", "noexec", "nodev", *system
            ),
        ],
        "linux": linux,
    }


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _environment(given: tuple[str, ...]) -> list[str]:
    """The last of each name counts, in the place of the first, as in our own sandbox."""
    known = {entry.partition("=")[0]: entry for entry in given if "=" in entry}
    known.setdefault("PATH", "PATH=" + DEFAULT_PATH)
    return list(known.values())
