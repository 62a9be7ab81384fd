"""Parts that the tests of lowering share: file text in, definition out, base images made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybuild.frontend.lowering.interface import (
    ImageRequest,
    Lowered,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.lowering.lower import lower
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.model.digest import Digest
from pybuild.model.ops import ExecOp, FileOp, Vertex, walk
from pybuild.model.platform import LINUX_AMD64, Platform

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARM = Platform.parse("linux/arm64")


def image(layers: int = 1, platform: Platform = LINUX_AMD64, **config: Any) -> dict[str, Any]:
    """Return an image config with *layers* layers."""
    return {
        "architecture": platform.arch,
        "os": platform.os,
        "config": {"Env": [PATH], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{n:064x}" for n in range(layers)]},
        "history": [{"created_by": f"layer {n}"} for n in range(layers)],
    }


def resolve(request: ImageRequest, config: dict[str, Any]) -> ResolvedImage:
    layers = len(config["rootfs"]["diff_ids"])
    digest = Digest.of(f"{request.reference} {request.platform}".encode())
    return ResolvedImage(digest, config, layers, request.platform)


def build(
    text: str,
    *,
    images: Mapping[str, dict[str, Any]] | None = None,
    asked: list[str] | None = None,
    **options: Any,
) -> Lowered:
    """Lower *text*, answering every request: from *images* by familiar name, else a plain image.

    *asked* collects ``name platform`` of all that was asked for.
    """
    dockerfile = parse_dockerfile(text.encode())
    options.setdefault("target_platform", LINUX_AMD64)
    options.setdefault("build_platform", LINUX_AMD64)
    known: dict[ImageRequest, ResolvedImage] = {}
    for _ in range(10):
        answer = lower(dockerfile, LowerOptions(**options), known)
        if isinstance(answer, Lowered):
            return answer
        assert isinstance(answer, NeedImages)
        for request in answer.requests:
            assert request not in known
            name = request.reference.familiar.removesuffix(":latest")
            if asked is not None:
                asked.append(f"{name} {request.platform}")
            config = (images or {}).get(name, image(platform=request.platform))
            known[request] = resolve(request, config)
    raise AssertionError("does not come to an end")


def execs(lowered: Lowered) -> list[ExecOp]:
    """Return the RUNs that the result needs, in order."""
    return [v.op for v in walk(lowered.result) if isinstance(v.op, ExecOp)]


def files(lowered: Lowered) -> list[FileOp]:
    return [v.op for v in walk(lowered.result) if isinstance(v.op, FileOp)]


def named(lowered: Lowered) -> list[str]:
    """Return the names that progress shows."""
    return [v.meta.name for v in walk(lowered.result)]


def env_of(op: ExecOp) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in op.env)
    return {name: value for name, _, value in pairs}


def texts(lowered: Lowered) -> list[str]:
    """Return the new history entries; those with a layer are marked."""
    return [("+ " if item.vertex else "  ") + item.created_by for item in lowered.history]


def find(lowered: Lowered, part: str) -> Vertex:
    """Return the one vertex whose name contains *part*."""
    (vertex,) = (v for v in walk(lowered.result) if part in v.meta.name)
    return vertex
