"""A request in provenance: frontend, arguments, the Dockerfile's origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pybuild.exporter.attest.sources import UsedSources
from pybuild.frontend.giturl import parse_git_url
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.secrets import without_secrets

# They depend on the machine that builds, or do not change the result.
_NOT_ARGUMENTS = frozenset(("cgroup-parent", "image-resolve-mode", "platform", "cache-imports"))
_VCS = "vcs:"
_SCRUBBED = ("build-arg:", "label:")
_CONTEXT = "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendRequest:
    """One request to a frontend; an empty *frontend* is the client's own.

    Attributes:
        inputs: by name, the documents of the requests that made the inputs.
    """

    frontend: str = ""
    args: Mapping[str, str] = field(default_factory=dict[str, str])
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def __bool__(self) -> bool:
        return bool(self.frontend or self.args or self.inputs)

    def document(self, sources: UsedSources) -> dict[str, Any]:
        """Return ``configSource`` and ``request`` of it."""
        args = filter_args(self.args)
        config = _config_source(args, sources)
        request: dict[str, Any] = {}
        if self.frontend:
            request["frontend"] = self.frontend
        if args:
            request["args"] = args
        if self.inputs:
            request["inputs"] = {name: dict(doc) for name, doc in sorted(self.inputs.items())}
        return {"configSource": config, "request": request}


def filter_args(given: Mapping[str, str]) -> dict[str, str]:
    """Return the recorded attributes of a frontend, without credentials, by name."""
    context = given.get("contextkey") or _CONTEXT
    args: dict[str, str] = {}
    for name, value in sorted(given.items()):
        if name in _NOT_ARGUMENTS or name.startswith("attest:"):
            continue
        if name == context or name.startswith((f"{_CONTEXT}:", _VCS)):
            value = without_secrets(value)
        args[name] = value
    return args


def _config_source(args: dict[str, str], sources: UsedSources) -> dict[str, Any]:
    """Take the Dockerfile's origin out of *args*."""
    config: dict[str, Any] = {}
    key = args.get("contextkey") or ("input:context" if "input:context" in args else _CONTEXT)
    url = args.pop(key, "")
    if url:
        uri, source = _named(url)
        config["uri"] = uri
        digest = sources.find(source)
        if digest is not None:
            config["digest"] = digest
    path = args.pop("filename", "")
    if path:
        config["path"] = path
    return config


def _named(url: str) -> tuple[str, str]:
    """Return a context's URL as it is recorded, and the source that it is part of."""
    try:
        git = parse_git_url(url, is_context=True)
    except UserError:
        git = None
    if git is None:
        return url, url
    op = git.source()
    source = op.remote + (f"#{op.ref}" if op.ref else "")
    if not op.subdir:
        return source, source
    return f"{source}{'' if op.ref else '#'}:{op.subdir}", source


def with_root(document: dict[str, Any], root: dict[str, Any] | None) -> dict[str, Any]:
    """Add the request that the whole build began with, where it is another one."""
    if root is None or root == document or not root["request"]:
        return document
    return {**document, "request": {**document["request"], "root": root}}


def take_vcs(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Part the facts of the source's version control from the arguments."""
    request = dict(document["request"])
    args: dict[str, str] = request.pop("args", {})
    vcs = {name.removeprefix(_VCS): args[name] for name in args if name.startswith(_VCS)}
    args = {name: value for name, value in args.items() if not name.startswith(_VCS)}
    if args:
        request["args"] = args
    return {**document, "request": request}, {name: text for name, text in vcs.items() if text}


def scrubbed(document: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Leave out the entries that ``mode=min`` has not; the second value: whether there were any."""
    request = dict(document["request"])
    request.pop("secrets", None)
    request.pop("ssh", None)
    args: dict[str, str] = request.pop("args", {})
    kept = {name: value for name, value in args.items() if not name.startswith(_SCRUBBED)}
    changed = len(kept) < len(args)
    if kept:
        request["args"] = kept
    inputs: dict[str, Any] = {}
    for name, inner in request.get("inputs", {}).items():
        inputs[name], touched = scrubbed(inner)
        changed |= touched
    if inputs:
        request["inputs"] = inputs
    if "root" in request:
        request["root"], touched = scrubbed(request["root"])
        changed |= touched
    return {**document, "request": request}, changed
