"""Examples on the pages of help, and its topics: ``pybuild help TOPIC``."""

from __future__ import annotations

EXAMPLES = {
    "build": (
        "pybuild .                                  # the Dockerfile here, its image in the local store",
        "pybuild build -t app:1 --target test --build-arg VERSION=2 .",
        "pybuild build -t registry.example/app:1 --push .",
        "pybuild build -o ./out .                   # the result as a directory",
        "pybuild build --secret id=token,env=TOKEN --ssh default .",
    ),
    "history": (
        "pybuild history app:1",
        "pybuild history --format '{{.Size}} {{.CreatedBy}}' app:1",
    ),
    "images": (
        "pybuild images -f label=team=a",
        "pybuild images --format 'table {{.Repository}}\\t{{.Size}}'",
    ),
    "inspect": ("pybuild inspect -f '{{json .Config.Env}}' app:1",),
    "login": (
        "pybuild login registry.example",
        "echo $TOKEN | pybuild login -u me --password-stdin",
    ),
    "prune": ("pybuild prune -f --filter until=72h", "pybuild prune -f --max-used-space 10GB"),
    "push": ("pybuild push registry.example/app:1", "pybuild push --all-tags registry.example/app"),
    "run": (
        "pybuild run app:1",
        'pybuild run -it -v "$PWD:/src" -w /src app:1 sh',
    ),
}
"""By command."""

TOPICS = {
    "caching": (
        "Steps are found again by what they read: by content, wherever it comes from.",
        "",
        "pybuild explain                            # why did it run again?",
        "pybuild build --cache registry.example/app:cache .   # keep it there, and start from it",
        "pybuild build --no-cache-filter=test .     # run these stages again",
        "pybuild du; pybuild prune                  # the space that it takes",
        "RUN --mount=type=cache,target=/root/.cache pip install .   # a directory that stays",
    ),
    "docker": (
        "Words of docker, buildx and podman do the same here; what cannot be had is refused by name.",
        "",
        "docker build, docker buildx build, podman build     pybuild build",
        "docker image ls, rm, prune …                        pybuild image ls, rm, prune …",
        "docker system df, prune, info                       pybuild system df, prune, info",
        "docker images --format, docker inspect --format     the same, with the same fields",
        "docker buildx create --driver remote NAME ADDR      pybuild builder add NAME ADDR",
        "docker buildx history ls, logs, inspect, rm         pybuild history ls, logs, inspect, rm",
        "",
        "DOCKER_DEFAULT_PLATFORM, BUILDX_BUILDER, BUILDKIT_HOST, BUILDKIT_PROGRESS, BUILDKIT_COLORS,",
        "NO_COLOR, FORCE_COLOR and the logins and proxies of docker's config.json count.",
    ),
    "outputs": (
        "Without --output the image is in the local store; --push and --load are short for the first two.",
        "",
        "-o type=registry                           # to the registry that -t names",
        "-o type=image                              # to the local store",
        "-o type=docker                             # to the Docker engine of this machine",
        "-o type=oci,dest=app.tar                   # an archive; type=docker,dest=… for docker load",
        "-o type=local,dest=./out, or -o ./out      # the files of the result",
        "-o type=tar,dest=-                         # the same as a tar on standard output",
    ),
    "platforms": (
        "Steps for other platforms need an emulator (pybuild doctor shows which are registered).",
        "",
        "pybuild build --platform linux/amd64,linux/arm64 -t app:1 --push .",
        "FROM --platform=$BUILDPLATFORM golang AS build     # build here, for $TARGETARCH",
        "DOCKER_DEFAULT_PLATFORM=linux/arm64                # where --platform is not given",
    ),
    "registries": (
        "Logins are docker's and podman's; mirrors and authorities stand in docs/configuration.md.",
        "",
        "pybuild login registry.example",
        "pybuild build --authfile auth.json -t registry.example/app:1 --push .",
        "pybuild push --creds me:secret registry.example/app:1",
        "pybuild registry serve                     # the local store as a registry",
    ),
    "secrets": (
        "Secrets reach the steps that mount them, and no layer, log or cache key. With key=true a step",
        "that mounts it runs again when its value has changed; the key is of no use to who guesses it.",
        "",
        "pybuild build --secret id=token,src=./token .      # or env=TOKEN",
        "pybuild build --secret id=token,env=TOKEN,key=true .",
        "RUN --mount=type=secret,id=token cat /run/secrets/token",
        "RUN --mount=type=secret,id=token,env=TOKEN curl …",
        "pybuild build --ssh default .              # RUN --mount=type=ssh git clone git@…",
    ),
}
"""By their names."""

GROUPS = {
    "build": {
        "inputs": "file target build-arg build-context platform pull secret ssh ignore-from-git modes "
        "source-policy-file authfile creds allow ca",
        "result": "tag label annotation output push load iidfile metadata-file attest provenance sbom",
        "cache": "cache cache-from cache-to no-cache no-cache-filter fail-on-miss explain cache-max",
        "progress": "progress quiet check call",
        "place": "builder host tlscacert tlscert tlskey tlsservername runtime root config",
        "steps (RUN)": "volume network add-host dns dns-search dns-option hostname ulimit shm-size memory "
        "memory-swap cpu-shares cpu-period cpu-quota cpuset-cpus cpuset-mems resource cgroup-parent",
    },
}
"""Options of a command by what they are about; the others come last."""
