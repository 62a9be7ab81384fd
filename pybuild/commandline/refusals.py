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
_WINDOWS = "it is for containers of Windows"
_DISKS = (
    "nothing here limits disks: give the container's cgroup a parent that does (--cgroup-parent)"
)
_CAPABILITIES = "a container has docker's default capabilities: run the program outside of it, or as another user"
_NAMESPACES = (
    "a container has namespaces of its own; share files with -v, and the network with --network"
)
_RUN = {
    "annotation": "write it as a label: --label K=V",
    "attach": "follow what it writes: pybuild logs -f CONTAINER",
    "blkio-weight": _DISKS,
    "blkio-weight-device": _DISKS,
    "cap-add": _CAPABILITIES,
    "cap-drop": _CAPABILITIES,
    "cgroupns": _NAMESPACES,
    "cpu-count": _WINDOWS,
    "cpu-percent": _WINDOWS,
    "cpu-rt-period": "give it processors with --cpus or --cpuset-cpus",
    "cpu-rt-runtime": "give it processors with --cpus or --cpuset-cpus",
    "device": "bind what the program needs with -v /dev/…",
    "device-cgroup-rule": "bind what the program needs with -v /dev/…",
    "device-read-bps": _DISKS,
    "device-read-iops": _DISKS,
    "device-write-bps": _DISKS,
    "device-write-iops": _DISKS,
    "disable-content-trust": "nothing checks signatures of that kind: name the image by its digest",
    "domainname": "write it behind the name: --hostname NAME.DOMAIN",
    "gpus": "bind what the program needs with -v /dev/…",
    "group-add": "name a group of the image with --user USER:GROUP",
    "io-maxbandwidth": _WINDOWS,
    "io-maxiops": _WINDOWS,
    "ipc": _NAMESPACES,
    "isolation": _WINDOWS,
    "kernel-memory": "the kernel has no such limit any more: --memory",
    "link": "put both into a network, where they find each other by name: pybuild network create",
    "link-local-ip": "give it an address of its network with --ip",
    "memory-reservation": "limit it with --memory",
    "memory-swappiness": "limit what it swaps with --memory-swap",
    "oom-kill-disable": "raise --memory",
    "oom-score-adj": "limit it with --memory, so that it is not others that are ended",
    "pid": _NAMESPACES,
    "privileged": "run the program outside of a container",
    "pull": "pull it first: pybuild pull IMAGE",
    "quiet": "nothing is shown while an image is pulled",
    "runtime": "steps of builds can have one (pybuild build --runtime); containers have our own",
    "security-opt": "a container has docker's default seccomp filter; pybuild doctor shows what else",
    "storage-opt": "limit the store with --cache-max",
    "sysctl": "set it on this machine: a container has the host's network",
    "use-api-socket": "there is no daemon with such a socket",
    "userns": "pybuild doctor shows which user namespace containers get",
    "uts": _NAMESPACES,
    "volume-driver": "name it at the mount: --mount type=volume,volume-driver=local,…",
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
