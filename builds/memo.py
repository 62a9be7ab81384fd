"""Memos of finished builds: their inputs and their results.

A memo is one JSON file under ``<root>/memo/``, found by what the command line asked for. It holds as
long as every file it names is what it was: the Dockerfile and the ignore files by digest, the build
contexts by a signature of every file's stat, base images by their resolution. The result is there by its
blobs and its names in the local store, by the stat of the files that it was written to, by its layers in
the cache where it is only to be made, or by what a registry says that it was pushed to. Lean, because the fully cached path is little else.
"""

from __future__ import annotations

import os
import stat
import time

from pybuild.cache.disk.plainfile import plain
from pybuild.model import lightjson
from pybuild.model.package import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class CommandLine(Protocol):
        """The words of a command, as `pybuild.commandline.parser` reads them."""

        values: dict[str, list[str]]
        positionals: list[str]

        def one(self, name: str, default: str = "") -> str:
            """Return the value of an option."""
            ...

    class CommandOptions(CommandLine, Protocol):
        """The words of a command, with the options that have many values or none."""

        def many(self, name: str) -> list[str]:
            """Return the values of an option that can be repeated."""
            ...

        def flag(self, name: str) -> bool:
            """Return whether an option without a value is set."""
            ...


FORMAT = 8
# Where the rules for sources are, if no option says it [POL-1].
POLICY_VARIABLES = ("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "BUILDKIT_SOURCE_POLICY")

# These change how a build is told, not what it does.
_TELLING = frozenset(
    ("progress", "quiet", "debug", "iidfile", "metadata-file", "root", "load", "runtime")
    + (
        "explain",
        "compress",
        "force-rm",
        "rm",
        "authfile",
        "creds",
        "fail-on-miss",
        "on-fail",
        "on-fail-container",
        "on-fail-output",
        "annotations",
        "cache-max",
        "ca",
    )
)

MOST_BUILDS = 100  # without a log, that the history keeps

# A build reads no larger Dockerfile, so that a part of one is none that a memo has.
_MOST_BYTES = (64 << 20) + 1

MOST_FILES = 20_000  # in a directory that a build wrote

# A file changed within the clock tick in which it was last looked at shows the same times after a
# second change. Kernels stamp files with a coarse clock (4 ms or 10 ms); file systems that keep whole
# seconds only are recognised by their stamps and given two.
_TICK_NS = 50_000_000
_COARSE_TICK_NS = 2_000_000_000
# What a memo that did not hold was compared with: when, the signature, and the newest time in it. The
# build that follows is signed by that, once, and not by another look.
_scanned: dict[tuple[str, ...], tuple[int, str, int]] = {}


def key_of(parsed: CommandLine) -> str | None:
    """The name of the memo for this command line; None when its inputs are not here."""
    context = parsed.positionals[0] if parsed.positionals else ""
    file = parsed.one("file")
    if context == "-" or not os.path.isdir(context) or file == "-" or "://" in file:
        return None
    values = {name: list(given) for name, given in parsed.values.items() if name not in _TELLING}
    if "file" in values:
        values["file"] = [os.path.abspath(values["file"][-1])]
    for name in ("build-arg", "label"):
        # NAME alone takes the environment's value [EV-3].
        values[name] = [
            item if "=" in item else f"{item}={os.environ.get(item)}"
            for item in values.get(name, ())
        ]
    for index, item in enumerate(values.get("build-context", ())):
        name, _, source = item.partition("=")
        values["build-context"][index] = f"{name}={os.path.realpath(source)}"
    for index, item in enumerate(values.get("volume", ())):
        source, _, rest = item.partition(":")
        values["volume"][index] = f"{os.path.realpath(os.path.expanduser(source))}:{rest}"
    if "output" in values:
        values["cwd"] = [os.getcwd()]
    epoch = [os.environ.get(name) for name in ("SOURCE_DATE_EPOCH", "DOCKER_DEFAULT_PLATFORM")]
    config = parsed.one("config") or os.environ.get("PYBUILD_CONFIG", "")
    what = [FORMAT, VERSION, os.path.realpath(context), sorted(values.items()), epoch, config]
    return _digest_of(lightjson.dumps(what).encode())


def load(root: str, key: str) -> dict[str, Any] | None:
    """Read a memo; None when there is none or it is damaged."""
    try:
        with open(os.path.join(root, "memo", key), "rb", opener=plain) as file:
            document: Any = lightjson.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    memo: dict[str, Any] = document  # pyright: ignore[reportUnknownVariableType]
    return memo if memo.get("format") == FORMAT else None


def save(root: str, key: str, content: dict[str, Any]) -> None:
    """Write a memo, atomically; without fsync, since losing it costs one slower build."""
    directory = os.path.join(root, "memo")
    temporary = os.path.join(directory, f".tmp-{os.urandom(8).hex()}")
    with open(temporary, "w", encoding="utf-8") as file:
        # A newer pybuild may have made the store another one since, which is not for us to read.
        version = _file_digest(os.path.join(root, "store.json"))
        file.write(lightjson.dumps({"format": FORMAT, "store": version, **content}))
    os.replace(temporary, os.path.join(directory, key))


def keep_build(root: str, at: float, facts: dict[str, Any]) -> None:
    """Keep a build in the history that began at *at* and was answered from a memo.

    The same record as `pybuild.cache.content.buildhistory` writes, without its imports and without opening the store;
    one of sixteen looks whether old ones are too many. Raises OSError.
    """
    id = os.urandom(4).hex()
    folder = os.path.join(root, "builds")
    path = os.path.join(folder, f"{int(at * 1000):011x}-{id}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.mkdir(folder, 0o700)
        fd = os.open(path, flags, 0o600)
    try:
        value = {"build": {**facts, "id": id, "at": at, "status": "completed"}}
        os.write(fd, lightjson.dumps(value, separators=(",", ":")).encode())
    finally:
        os.close(fd)
    if id.startswith("0"):
        there = set(os.listdir(folder))
        cached = sorted(name for name in there if len(name) == 20 and f"{name}.log" not in there)
        for name in cached[:-MOST_BUILDS]:
            os.unlink(os.path.join(folder, name))


def _look(look: Callable[..., Any], *args: Any) -> Any:
    return look(*args)


def holds(memo: dict[str, Any], root: str, once: Callable[..., Any] = _look) -> bool:
    """Whether everything is still as the memo says; cheapest questions first.

    Args:
        once: calls a function with its arguments, or answers as it did the last time.
    """
    try:
        return (
            once(_file_digest, os.path.join(root, "store.json")) == memo["store"]
            and all(once(_file_digest, path) == digest for path, digest in memo["files"])
            and all(once(_resolution, path) == digest for path, digest in memo["resolutions"])
            and all(once(_size, path) == size for path, size in memo["present"])
            and all(once(os.path.isdir, path) for path in memo["layers"])
            and (
                not memo["is_kept"]
                or _names_hold(
                    once(_manifests, root), memo["image"]["digest"], memo["names"], memo["origin"]
                )
            )
            and all(once(output_state, path)[0] == state for path, state in memo["outputs"])
            and all(
                _names_hold(once(_manifests, root), digest, [name], [])
                for name, digest in memo["bases"]
            )
            and all(context_holds(context, once) for context in memo["contexts"])
            and all(once(_stands, *manifest) for manifest in memo["pushed"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def sign_context(path: str, prefixes: list[str], exclude: list[str]) -> dict[str, Any] | None:
    """Describe the state of a context; None when it cannot be told for sure.

    That is so when a file was touched too lately, or something cannot be read: whether the build
    minds is for the build to say, with the line that asks for it.
    """
    looked, signature, newest = _scanned.pop((path, *prefixes, "", *exclude), (0, "", 0))
    if not looked or is_young(newest, looked):
        try:
            looked, signature, newest = scan(path, prefixes, exclude)
        except OSError:
            return None
        if is_young(newest, looked):
            return None
    return {"path": path, "prefixes": prefixes, "exclude": exclude, "signature": signature}


def scan(path: str, prefixes: Sequence[str], exclude: Sequence[str]) -> tuple[int, str, int]:
    """Return when a context was looked at, its signature then, and the newest time in it.

    Raises:
        OSError: something cannot be read. ValueError: a malformed pattern.
    """
    from pybuild.executor.trees.contextscan import scan_signature

    looked = time.time_ns()
    return looked, *scan_signature(path, prefixes, exclude)


def output_state(path: str) -> tuple[str, int]:
    """Return a signature of the file or directory that an output made, and the newest time in it (ns).

    Raises:
        OSError: it cannot be read. ValueError: it is neither, or so large that a look costs what it saves.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        from pybuild.executor.trees.contextscan import scan_signature

        signature, newest = scan_signature(path, most=MOST_FILES)
        return f"{status.st_ino} {signature}", newest
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("neither a file nor a directory")
    facts = (status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid)
    times = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return " ".join(map(str, facts + times)), status.st_ctime_ns


def is_young(newest: int, looked: int) -> bool:
    """Whether a file may still change without a new time, changed as late as it was."""
    coarse = newest % 1_000_000_000 == 0
    return newest > looked - (_COARSE_TICK_NS if coarse else _TICK_NS)


def file_digest(data: bytes | None) -> str:
    """The memo's name of a file's content; the empty text is a file that is not there."""
    return "" if data is None else _digest_of(data)


def file_has(path: str, digest: str) -> bool:
    """Whether a file, or its absence, is as `file_digest` says.

    Raises:
        OSError: it cannot be read.
    """
    return _file_digest(path) == digest


def _digest_of(data: bytes) -> str:
    from pybuild.executor.trees.contextscan import digest_of  # builds without a memo do without

    return digest_of(data)


def _file_digest(path: str) -> str:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("not a regular file: reading it would use it up")
        with open(path, "rb", opener=plain) as file:
            return file_digest(file.read(_MOST_BYTES))
    except FileNotFoundError:
        return ""


def _resolution(path: str) -> str:
    with open(path, "rb", opener=plain) as file:
        return str(lightjson.loads(file.read())["manifest"]["digest"])


def _size(path: str) -> int:
    return os.stat(path).st_size


def _manifests(root: str) -> list[dict[str, Any]]:
    with open(os.path.join(root, "index.json"), "rb", opener=plain) as file:
        manifests: list[dict[str, Any]] = lightjson.loads(file.read())["manifests"]
    return manifests


def _stands(netloc: str, path: str, media_type: str, digest: str) -> bool:
    from pybuild.registry.client.standing import stands

    return stands(netloc, path, media_type, digest)


def _names_hold(
    manifests: list[dict[str, Any]], digest: str, names: list[str], origin: list[str]
) -> bool:
    """Whether the local store's index still gives every name of the result to the result.

    One without a name must be the last of its *origin*, or nothing would keep it from now on.
    """
    entries = [entry for entry in manifests if entry["digest"] == digest]
    if names:
        notes: list[dict[str, str]] = [entry.get("annotations") or {} for entry in entries]
        return {note.get("io.containerd.image.name", "") for note in notes}.issuperset(names)
    from pybuild.cache.content.origins import origins_of

    return any(tuple(origin) in origins_of(entry) for entry in entries)


def context_holds(context: dict[str, Any], once: Callable[..., Any] = _look) -> bool:
    path, prefixes, exclude = context["path"], context["prefixes"], context["exclude"]
    seen: tuple[int, str, int] = once(scan, path, tuple(prefixes), tuple(exclude))
    _scanned[path, *prefixes, "", *exclude] = seen
    return bool(seen[1] == context["signature"])


def keep_answer(root: str, began: float, record: dict[str, Any]) -> None:
    """Keep a build that its memo answered in the history.

    Raises:
        OSError: it cannot be written.
    """
    steps: list[list[str]] = record["steps"]
    cached = sum(word == "CACHED" for _, word in steps)
    facts = {
        **record.get("facts", {}),
        "seconds": round(max(0.0, time.time() - began), 3),
        "images": [record["image"]["digest"]] if record["image"] else [],
        "image_id": record["image_id"],
        "names": record["names"],
        "rows": steps,
        "steps": {"total": len(steps), "completed": len(steps), "cached": cached},
    }
    keep_build(root, began, facts)
