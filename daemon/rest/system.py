"""Requests about the server itself [EP-1, ENG-13, ENG-14]."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.routes import NEWEST, OLDEST, shown_version
from pybuild.engine.host import native_platform
from pybuild.model.package import VERSION

ENGINE_VERSION = f"28.5.2+pybuild.{VERSION}"
"""The version of Docker's engine as whose API we answer: clients look there for what they may ask."""
_BUILT = "2026-12-01T00:00:00.000000000+00:00"
_PING = {
    "Builder-Version": "2",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}
_FIXED: Mapping[str, Any] = {
    "Driver": "overlayfs",
    "DriverStatus": [["Backing Filesystem", "pybuild"]],
    "Plugins": {
        "Volume": ["local"],
        "Network": ["bridge", "host", "null"],
        "Authorization": None,
        "Log": ["json-file", "local", "none"],
    },
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsPeriod": True,
    "CpuCfsQuota": True,
    "CPUShares": True,
    "CPUSet": True,
    "PidsLimit": True,
    "OomKillDisable": False,
    "IPv4Forwarding": True,
    "Debug": False,
    "NGoroutines": 0,
    "LoggingDriver": "json-file",
    "CgroupDriver": "cgroupfs",
    "OSVersion": "",
    "OSType": "linux",
    "IndexServerAddress": "https://index.docker.io/v1/",
    "RegistryConfig": {
        "IndexConfigs": {},
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
        "Mirrors": [],
    },
    "GenericResources": None,
    "HttpProxy": "",
    "HttpsProxy": "",
    "NoProxy": "",
    "Labels": [],
    "ExperimentalBuild": False,
    "ServerVersion": ENGINE_VERSION,
    "Runtimes": {"pybuild": {"path": "pybuild"}},
    "DefaultRuntime": "pybuild",
    "Swarm": {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    },
    "LiveRestoreEnabled": True,
    "Isolation": "",
    "InitBinary": "docker-init",
    "ContainerdCommit": {"ID": ""},
    "RuncCommit": {"ID": ""},
    "InitCommit": {"ID": ""},
    "CDISpecDirs": [],
    "FirewallBackend": {"Driver": "nftables"},
    "Warnings": None,
}
"""The facts that are the same on each machine [ENG-13]."""


async def ping(exchange: ApiExchange) -> web.StreamResponse:
    """Say that we are there."""
    if exchange.request.method == "HEAD":
        return web.Response(headers={**_PING, "Content-Length": "0"})
    return web.Response(body=b"OK", content_type="text/plain", charset="utf-8", headers=_PING)


async def version(exchange: ApiExchange) -> web.StreamResponse:
    """Show versions."""
    shown = {
        "ApiVersion": shown_version(NEWEST),
        "Arch": native_platform().arch,
        "BuildTime": _BUILT,
        "GitCommit": "pybuild",
        "GoVersion": f"python{platform.python_version()}",
        "KernelVersion": os.uname().release,
        "MinAPIVersion": shown_version(OLDEST),
        "Os": "linux",
    }
    details = {**shown, "Experimental": "false"}
    return answer(
        {
            "Platform": {"Name": "pybuild"},
            "Components": [{"Name": "Engine", "Version": ENGINE_VERSION, "Details": details}],
            "Version": ENGINE_VERSION,
            **shown,
        }
    )


async def info(exchange: ApiExchange) -> web.StreamResponse:
    """Show what the server has and can do."""
    shown = await exchange.host.run(_info, exchange.host)
    if exchange.call.version < (1, 50):
        shown |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    return answer(shown)


def _info(host: RestHost) -> dict[str, Any]:
    states = Counter(state.status for _, state in host.containers.states())
    running = states["running"] + states["restarting"]
    machine = os.uname()
    controllers = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return {
        **_FIXED,
        "ID": host.store.root,
        "Containers": states.total(),
        "ContainersRunning": running,
        "ContainersPaused": states["paused"],
        "ContainersStopped": states.total() - running - states["paused"],
        "Images": len(list(host.store.images.list())),
        "NFd": len(os.listdir("/proc/self/fd")),
        "SystemTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "CgroupVersion": "2" if controllers else "1",
        "NEventsListener": host.listeners,
        "KernelVersion": machine.release,
        "OperatingSystem": _system(),
        "Architecture": machine.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DockerRootDir": host.store.root,
        "Name": machine.nodename,
        "SecurityOptions": [
            "name=seccomp,profile=builtin",
            "name=cgroupns",
            *([] if os.geteuid() == 0 else ["name=rootless"]),
        ],
    }


def _system() -> str:
    try:
        return str(platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"))
    except OSError:
        return "Linux"


async def no_plugins(exchange: ApiExchange) -> web.StreamResponse:
    """List the plugins: there are none."""
    return answer([])


async def no_swarm(exchange: ApiExchange) -> web.StreamResponse:
    """Refuse what is for swarms [ENG-23]."""
    raise ApiRefusal(
        503,
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
        "this node to swarm and try again.",
    )


async def no_checkpoints(exchange: ApiExchange) -> web.StreamResponse:
    """Refuse checkpoints."""
    raise ApiRefusal(501, "checkpoints are not done by pybuild")


_OF_SWARMS = ("nodes", "services", "tasks", "secrets", "configs")
HANDLERS: Mapping[str, Handler] = {
    "GET /_ping": ping,
    "HEAD /_ping": ping,
    "GET /version": version,
    "GET /info": info,
    "GET /plugins": no_plugins,
    "GET /swarm": no_swarm,
    **{f"GET /{name}": no_swarm for name in _OF_SWARMS},
    **{f"GET /{name}/{{name}}": no_swarm for name in _OF_SWARMS},
    **{f"POST /{name}/create": no_swarm for name in _OF_SWARMS},
    **{f"DELETE /{name}/{{name}}": no_swarm for name in _OF_SWARMS},
    **{f"POST /swarm/{word}": no_swarm for word in ("init", "join", "leave", "update")},
    "GET /containers/{name}/checkpoints": no_checkpoints,
    "POST /containers/{name}/checkpoints": no_checkpoints,
}
