"""Scanning a result for its contents, as scanner images expect to be run [ATT-3].

A scanner finds the result, and perhaps stages and the context, in read-only mounts, and leaves
in-toto statements in a directory, which is the step's result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybuild.exporter.attest.options import Sbom
from pybuild.frontend.lowering.interface import ResolvedImage
from pybuild.model.errors import UserError
from pybuild.model.ops import ExecOp, ImageSource, Mount, MountType, Vertex, VertexMeta

CORE = "sbom"
_SOURCES, _DESTINATION = "/run/src", "/run/out"
_PREFIX = "BUILDKIT_SCAN_"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def scan(
    sbom: Sbom,
    image: ResolvedImage,
    *,
    name: str,
    core: Vertex,
    extras: Mapping[str, Vertex],
    ignore_cache: bool = False,
) -> Vertex:
    """Return the step whose result is the directory of statements about *core*.

    Args:
        image: the scanner's.
        name: the result's, to be shown.
        extras: stages and contexts that are scanned beside it, by name.

    Raises:
        UserError: the image says nothing of how to run it.
    """
    config: Mapping[str, Any] = image.config.get("config") or {}
    args = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if not args:
        raise UserError(f"scanner {sbom.generator} does not have cmd")
    reference = sbom.generator.with_digest(image.digest)
    source = ImageSource(digest=image.digest, reference=reference, platform=image.platform)
    root = Vertex(source, meta=VertexMeta(name=f"[{name}] FROM {reference}"))
    mounts = [
        Mount(target="/", input=0),
        Mount(target="/tmp", type=MountType.TMPFS),
        Mount(target=f"{_SOURCES}/core/{CORE}", input=1, readonly=True),
    ]
    inputs = [root, core]
    for extra in sorted(extras):
        target = f"{_SOURCES}/extras/{CORE}-{extra}"
        mounts.append(Mount(target=target, input=len(inputs), readonly=True))
        inputs.append(extras[extra])
    mounts.append(Mount(target=_DESTINATION, output=True))
    op = ExecOp(
        args=tuple(args),
        env=_environment(config, sbom, bool(extras)),
        cwd=str(config.get("WorkingDir") or "/"),
        mounts=tuple(mounts),
        platform=image.platform,
    )
    title = f"[{name}] generating sbom using {sbom.generator}"
    return Vertex(op, tuple(inputs), VertexMeta(name=title, ignore_cache=ignore_cache))


def _environment(config: Mapping[str, Any], sbom: Sbom, has_extras: bool) -> tuple[str, ...]:
    env = [str(item) for item in config.get("Env") or ()]
    if not any(item.startswith("PATH=") for item in env):
        env.append(_PATH)
    env.append(f"{_PREFIX}DESTINATION={_DESTINATION}/")
    env.append(f"{_PREFIX}SOURCE={_SOURCES}/core/{CORE}")
    if has_extras:
        env.append(f"{_PREFIX}SOURCE_EXTRAS={_SOURCES}/extras/")
    env += [f"{_PREFIX}{key}={value}" for key, value in sorted(sbom.parameters.items())]
    return tuple(env)
