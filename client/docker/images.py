"""Images brought to an engine far away, and from it to a registry [EP-11, EP-14, ENG-38]."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Generator
from typing import Any

from pybuild.client.docker.creation import CreationOptions
from pybuild.client.docker.requests import Requests, named
from pybuild.model.errors import UserError
from pybuild.model.jsontext import as_object
from pybuild.model.printable import in_log
from pybuild.model.reference import Reference, is_pinned, parse_reference
from pybuild.registry.client.credentials import Credential, DockerCredentials

Say = Callable[[str], None]
"""Shows a line of progress."""


def pull(engine: Requests, options: CreationOptions, name: str, say: Say) -> Reference:
    """Have an image fetched, with the login that is here; return its whole name."""
    reference = parse_reference(name)
    query = {"fromImage": reference.repository}
    query["tag"] = str(reference.digest) if reference.digest else reference.tag or "latest"
    if platform := options.one("platform"):
        query["platform"] = platform
    _follow(engine.lines("POST", "/images/create", query, headers=_login(options, reference)), say)
    return reference


def push(engine: Requests, options: CreationOptions, name: str, say: Say) -> list[str]:
    """Have an image sent to its registry, with the login that is here; return what was pushed."""
    every = options.flag("all-tags")
    if every and is_pinned(name):
        raise UserError(
            "tag can't be used with --all-tags", hints=["name the repository without its tag"]
        )
    reference = parse_reference(name)
    pushed: list[str] = []
    lines = engine.lines(
        "POST",
        named("images", reference.repository, "push"),
        None if every else {"tag": reference.tag or "latest"},
        headers=_login(options, reference),
    )
    for line in _kept(lines, say):
        known = as_object(line.get("aux"))
        if "Digest" in known:
            pushed.append(f"{reference.repository}:{known['Tag']}@{known['Digest']}")
    return pushed


def _follow(lines: Generator[dict[str, Any]], say: Say) -> None:
    for _ in _kept(lines, say):
        pass


def _kept(lines: Generator[dict[str, Any]], say: Say) -> Generator[dict[str, Any]]:
    """Show a line for each change of words, and hand all on."""
    last: dict[str, str] = {}
    for line in lines:
        status, id = str(line.get("status", "")), str(line.get("id", ""))
        if status and last.get(id) != status:
            last[id] = status
            say(in_log(f"{id}: {status}" if id else status))
        yield line


def _login(options: CreationOptions, reference: Reference) -> dict[str, str]:
    """Return the header with our login at an image's registry."""
    host = reference.repository.partition("/")[0]
    return {"X-Registry-Auth": _encoded(_fields(options, host))}


def logins(options: CreationOptions) -> dict[str, str]:
    """Return the header with our logins at the registries of the images that are to be built."""
    hosts = {parse_reference(name).repository.partition("/")[0] for name in options.many("tag")}
    return {"X-Registry-Config": _encoded({host: _fields(options, host) for host in sorted(hosts)})}


def _fields(options: CreationOptions, host: str) -> dict[str, str]:
    if given := options.one("creds"):
        name, _, password = given.partition(":")
        known: Credential | None = Credential(name, password)
    else:
        environ = dict(os.environ)
        if path := options.one("authfile"):
            environ["REGISTRY_AUTH_FILE"] = path
        known = asyncio.run(DockerCredentials(environ).find(host))
    if known is None:
        return {}
    fields = {
        "username": known.username,
        "password": known.password,
        "identitytoken": known.identity_token,
        "registrytoken": known.registry_token,
        "serveraddress": host,
    }
    return {key: value for key, value in fields.items() if value}


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
