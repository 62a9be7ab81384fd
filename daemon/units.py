"""Units of systemd for the server: its sockets, and the service that systemd starts for them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

from pybuild.model.errors import UsageError

SERVICE = "pybuild.service"
_BUILDS = "pybuild.socket"
_DOCKER = "pybuild-docker.socket"


def write_units(folder: str, *, is_user: bool, docker_socket: str = "") -> str:
    """Write the units of this program into *folder*; without one, return their text.

    Raises:
        UsageError: they cannot be written there.
    """
    program = os.path.abspath(shutil.which(sys.argv[0]) or sys.argv[0])
    made = units(program, is_user=is_user, docker_socket=docker_socket)
    if not folder:
        return "".join(f"# {name}\n{text}\n" for name, text in made.items())
    try:
        for name, text in made.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise UsageError(f"{folder}: {(error.strerror or '').lower()}") from error
    return ""


def units(program: str, *, is_user: bool, docker_socket: str = "") -> Mapping[str, str]:
    """Return the texts of the units by the names of their files.

    Args:
        program: the absolute path of pybuild.
        is_user: for a user's own manager, not for the machine's.
        docker_socket: where Docker's API is served; empty: where its clients look.
    """
    docker = docker_socket or ("%t/docker.sock" if is_user else "/run/docker.sock")
    target = "default.target" if is_user else "multi-user.target"
    return {
        _BUILDS: _socket("BuildKit's API", "%t/pybuild/pybuild.sock", "builds", "0600"),
        _DOCKER: _socket("Docker's API", docker, "docker", "0600" if is_user else "0660"),
        SERVICE: _service(program, target, is_user=is_user),
    }


def _socket(what: str, path: str, name: str, mode: str) -> str:
    group = (
        "# SocketGroup=docker lets the members of a group be root here\n" if mode == "0660" else ""
    )
    return f"""\
[Unit]
Description=Socket of pybuild for {what}

[Socket]
ListenStream={path}
FileDescriptorName={name}
SocketMode={mode}
{group}DirectoryMode=0755
Service={SERVICE}

[Install]
WantedBy=sockets.target
"""


def _service(program: str, target: str, *, is_user: bool) -> str:
    """Return the service; it is started with the machine, too, for the containers that run then."""
    after = (
        ""
        if is_user
        else "After=network-online.target local-fs.target\nWants=network-online.target\n"
    )
    return f"""\
[Unit]
Description=pybuild: builds and containers, for clients of BuildKit and Docker
{after}Requires={_BUILDS} {_DOCKER}

[Service]
Type=notify
ExecStart={program} daemon --addr fd:// --docker-address fd://
Sockets={_BUILDS} {_DOCKER}
# Containers have processes of their own, which stay when the server is stopped or replaced.
KillMode=process
Delegate=yes
Restart=on-failure
RestartSec=1
TimeoutStopSec=90
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy={target}
Also={_BUILDS} {_DOCKER}
"""
