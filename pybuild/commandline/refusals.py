"""Options of docker, buildx, podman and buildah that cannot be had here, refused by name with the way out."""

from __future__ import annotations

from collections.abc import Collection

_BUILD = {
    "build-id": "builds have ids of their own: pybuild explain --list",
    "cap-add": "write RUN --security=insecure, and build with --allow security.insecure",
    "device": "write RUN --device=NAME, and build with --allow device",
    "env": "write ENV in the Dockerfile, or ARG and --build-arg",
    "format": "choose with --output type=image,oci-mediatypes=true or false",
    "isolation": "pybuild doctor shows how steps are isolated, and why",
    "layers": "each instruction is a layer; --no-cache builds without stored results",
    "privileged": "write RUN --security=insecure, and build with --allow security.insecure",
    "security-opt": "write RUN --security=insecure, and build with --allow security.insecure",
    "squash": "end with a stage of one layer: FROM scratch, and COPY --from=STAGE / /",
    "userns": "pybuild doctor shows which user namespace steps get",
}
_RUN = {
    "cidfile": "the container ends with the command; there is nothing to find it by",
    "cpus": "limit a build's steps with --cpu-quota; run has no limits",
    "gpus": "bind what the program needs with -v /dev/…",
    "privileged": "run the program outside of a container",
    "restart": "run it by a service manager",
}
_HISTORY = {
    "local": "all builds of the store are listed; --filter repository=TEXT picks those of a repository",
}
_ANYWHERE = {
    "tls-verify": "set insecure = true for the registry in the configuration (docs/configuration.md)",
}
_VERBS = {
    "bake": "build each target by itself: pybuild build -f FILE --target NAME -t NAME .",
    "create": "there are no drivers: pybuild builder add NAME ADDRESS names a build server",
    "history export": "write what is known of a build with pybuild history inspect --format json, and logs",
    "history import": "its log is for pybuild history logs; there is no Docker Desktop to bring builds to",
    "history open": "there is no Docker Desktop here: pybuild history inspect and logs show the build",
    "history trace": "pybuild history logs --progress rawjson has the times of each step",
}


def verb_way_out(words: str) -> str:
    """Return the way out for a verb of others that pybuild does not have; *words* as ``history open``."""
    return _VERBS.get(words.removeprefix("buildx "), "")


def way_out(name: str, known: Collection[str]) -> str:
    """Return the way out for an option of others; *known* are those of the command, which tell it."""
    table = _BUILD if "build-arg" in known else _RUN if "entrypoint" in known else {}
    if "no-trunc" in known and "host" in known:
        table = _HISTORY
    return table.get(name) or _ANYWHERE.get(name, "")
