"""Kaniko's command line (``/kaniko/executor``) as ours, for those whose tool was archived. Pure."""

from __future__ import annotations

from pybuild.commandline.parser import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SAME = {
    "build-arg": "build-arg",
    "label": "label",
    "target": "target",
    "dockerfile": "file",
    "secret": "secret",
    "custom-platform": "platform",
    "customPlatform": "platform",
}
_IGNORED = frozenset(
    ("cache-copy-layers", "cache-run-layers", "cache-dir", "cache-ttl", "cleanup", "force")
    + ("compressed-caching", "push-retry", "image-fs-extract-retry", "image-download-retry")
    + ("single-snapshot", "skip-unused-stages", "snapshot-mode", "snapshotMode", "use-new-run")
    + ("log-format", "log-timestamp", "push-ignore-immutable-tag-errors", "ignore-var-run")
    + (
        "skip-push-permission-check",
        "kaniko-dir",
        "image-name-with-digest-file",
        "initial-fs-unpacked",
    )
)
"""Flags about how Kaniko works, which nothing here depends on."""
_BOOLEAN = frozenset(
    ("cache", "no-push", "no-push-cache", "reproducible", "insecure", "insecure-pull")
    + (
        "skip-tls-verify",
        "skip-tls-verify-pull",
        "cache-copy-layers",
        "cache-run-layers",
        "cleanup",
    )
    + ("force", "compressed-caching", "single-snapshot", "skip-unused-stages", "use-new-run")
    + ("log-timestamp", "push-ignore-immutable-tag-errors", "ignore-var-run", "initial-fs-unpacked")
    + ("skip-push-permission-check", "skip-default-registry-fallback")
)
_SHORT = {"c": "context", "d": "destination", "f": "dockerfile", "v": "verbosity"}
_REFUSED = {
    "registry-mirror": 'name it in pybuild.toml: [registry."docker.io"] mirrors = ["HOST"]',
    "registry-map": 'name it in pybuild.toml: [registry."HOST"] mirrors = ["OTHER"]',
    "registry-certificate": 'name it in pybuild.toml: [registry."HOST"] ca = "FILE"',
    "registry-client-cert": "name it in pybuild.toml",
    "insecure-registry": 'name it in pybuild.toml: [registry."HOST"] http = true',
    "skip-tls-verify-registry": 'name it in pybuild.toml: [registry."HOST"] insecure = true',
    "ignore-path": "leave it out with RUN rm in the step that makes it, or in .dockerignore",
    "git": "name branch, commit or directory behind # in the context: git://…#refs/heads/main:DIR",
}


def build_words(words: Sequence[str]) -> list[str]:
    """Return the words of ``pybuild`` for those of Kaniko's executor.

    Raises:
        BadOption: a flag that is not done here, with the way out.
    """
    given = _read(words)

    def one(name: str) -> str:
        return given.get(name, [""])[-1]

    def is_on(name: str) -> bool:
        return one(name).lower() in ("true", "1")

    made = ["build"]
    for name, ours in _SAME.items():
        made += [f"--{ours}={value}" for value in given.get(name, ())]
    destinations = given.get("destination", [])
    pushes = bool(destinations) and not is_on("no-push")
    made += [f"--tag={name}" for name in destinations]
    compression = f",compression={kind}" if (kind := one("compression")) else ""
    if level := one("compression-level"):
        compression += f",compression-level={level}"
    tar = one("tar-path") or one("tarPath")
    if pushes:
        plain = is_on("insecure") or is_on("skip-tls-verify")
        insecure = ",registry.insecure=true" if plain else ""
        made.append(f"--output=type=registry{insecure}{compression}")
    if tar:
        made.append(f"--output=type=docker,dest={tar}{compression}")
    if layout := one("oci-layout-path"):
        made.append(f"--output=type=oci,tar=false,dest={layout}{compression}")
    if not (pushes or tar or layout):
        made.append("--output=type=cacheonly")
    if is_on("cache"):
        repository = one("cache-repo") or (
            f"{_repository(destinations[0])}/cache" if destinations else ""
        )
        if repository:
            made.append(f"--cache={repository.removeprefix('oci:')}")
    if is_on("reproducible"):
        made.append("--build-arg=SOURCE_DATE_EPOCH=0")
    if file := one("digest-file"):
        made.append(f"--metadata-file={file}.json")
    if one("verbosity") in ("panic", "fatal", "error"):
        made.append("--progress=none")
    return [*made, "--", _context(one("context"), one("context-sub-path"))]


def digest_file(words: Sequence[str]) -> str:
    """Return the file that the digest of the image is to be written to; empty for none."""
    return _read(words).get("digest-file", [""])[-1]


def _repository(name: str) -> str:
    head, slash, last = name.partition("@")[0].rpartition("/")
    return head + slash + last.partition(":")[0]


def _context(text: str, below: str) -> str:
    """Return the context as we name it: Kaniko's have a scheme each, and a directory by default."""
    kind, scheme, rest = text.partition("://")
    if not scheme:
        return _joined(text or "/workspace", below)
    match kind:
        case "dir":
            return _joined(rest, below)
        case "git":
            url, _, fragment = rest.partition("#")
            reference = fragment.removeprefix("refs/heads/").removeprefix("refs/tags/")
            made = f"https://{url}" + (f"#{reference}" if reference or below else "")
            return made + (f":{below}" if below else "")
        case "https" | "http":
            return text
        case "tar" if rest == "stdin":
            return "-"
        case _:
            raise BadOption(
                f"contexts of kind {kind}:// are not fetched",
                "fetch and unpack it in a step before, and name the directory: --context=dir://DIR",
            )


def _joined(folder: str, below: str) -> str:
    return f"{folder.rstrip('/')}/{below}" if below else folder


def _read(words: Sequence[str]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if not word.startswith("-"):
            raise BadOption(f'executor takes no arguments, got "{word}"')
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            name = _SHORT.get(name, name)
        if name in _REFUSED:
            raise BadOption(f"--{name} of Kaniko is not done by pybuild", _REFUSED[name])
        if not equals and name in _BOOLEAN:
            value = "true"
        elif not equals:
            if not waiting:
                raise BadOption(f"flag needs an argument: --{name}")
            value = waiting.pop()
        if name not in _KNOWN:
            raise BadOption(f"unknown flag of Kaniko: --{name}")
        given.setdefault(name, []).append(value)
    return given


_KNOWN = (
    _IGNORED
    | _BOOLEAN
    | _SAME.keys()
    | {"context", "context-sub-path", "destination", "tar-path", "tarPath", "oci-layout-path"}
    | {"cache-repo", "compression", "compression-level", "digest-file", "verbosity"}
)
