"""Reads the values of ``--ssh``: the agents and keys that a build may use [SEC-4]."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pybuild.model.errors import UsageError, UserError
from pybuild.model.text import boolean

if TYPE_CHECKING:
    from pybuild.executor.sources.agents import SshAgent


def parse_ssh(items: Iterable[str], environ: Mapping[str, str]) -> tuple[SshAgent, ...]:
    """Read ``default``, ``id=socket``, ``id=key[,key…]`` and ``id=socket,raw=true``; keys are loaded.

    Raises:
        UsageError: an id twice, or values that do not go together.
        UserError: a file is not there, or neither a socket nor a private key.
    """
    agents: dict[str, SshAgent] = {}
    for item in items:
        agent = _parse(item, environ)
        if agent.id in agents:
            raise UsageError(f'invalid ssh "{item}": duplicate agent ID "{agent.id}"')
        agents[agent.id] = agent
    return tuple(agents.values())


def parse_agents(items: Sequence[str]) -> tuple[SshAgent, ...]:
    """Read the values of ``--ssh`` with this process's environment."""
    return parse_ssh(items, os.environ)


def _parse(item: str, environ: Mapping[str, str]) -> SshAgent:
    from pybuild.executor.sources.agents import SshAgent, read_key  # seldom wanted

    name, _, value = item.partition("=")
    name = name or "default"
    paths: list[str] = []
    raw = False
    for part in value.split(",") if value else ():
        key, equals, text = part.partition("=")
        if key == "raw" and equals:
            given = boolean(text)
            if given is None:
                raise UsageError(f'invalid ssh "{item}": invalid value for raw: {text}')
            raw = given
        elif part:
            paths.append(part)
    if raw and len(paths) != 1:
        raise UsageError(f'raw mode must supply exactly one socket path for "{name}"')
    if not paths:
        socket = environ.get("SSH_AUTH_SOCK", "")
        if not socket:
            raise UsageError(
                f'ssh "{name}": invalid empty ssh agent socket: SSH_AUTH_SOCK is not set',
                hints=(f"start an agent, or name a key: --ssh {name}=PATH",),
            )
        paths = [socket]
    sockets = [path for path in paths if _is_socket(name, path)]
    if sockets and len(paths) > 1:
        what = "only a single socket is allowed"
        if len(sockets) < len(paths):
            what = "invalid combination of keys and sockets"
        raise UsageError(f'invalid ssh "{item}": {what}')
    if sockets:
        return SshAgent(id=name, socket=os.path.abspath(sockets[0]), raw=raw)
    if raw:
        raise UsageError(f'invalid ssh "{item}": raw mode is for sockets only')
    keys = tuple((os.path.basename(path), read_key(name, path)) for path in paths)
    return SshAgent(id=name, keys=keys)


def _is_socket(name: str, path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f'ssh "{name}": cannot use {path}: {reason}') from error
