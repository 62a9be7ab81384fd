"""The fully cached build: proves from files alone that nothing changed, and says so.

Imports no parser, graph, event loop, database or HTTP client; a test holds it to that. When anything
at all is not as the memo says, it returns None and the whole engine decides.
"""

from __future__ import annotations

import os
import sys

from pybuild.cache.disk.ownership import doubt_of_file, is_private
from pybuild.engine.paths import config_file, default_root
from pybuild.memo import memo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.commandline.parser import Parsed

# With these, a build does something besides looking at its inputs; the engine does them.
_INELIGIBLE = (
    "attest",
    "provenance",
    "sbom",
    "no-cache",
    "no-cache-filter",
    "pull",
    "push",
    "output",
    "secret",
    "source-policy-file",
    "ssh",
    "allow",
    "cache",
    "cache-to",
    "explain",
    "help",
)


def try_cached_build(parsed: Parsed) -> int | None:
    """Answer the build from its memo; None when it has to be looked at in earnest."""
    if any(name in parsed.values for name in _INELIGIBLE):
        return None
    if any(name in os.environ for name in memo.POLICY_VARIABLES):
        return None  # what a policy says of a source is not in the memo
    if parsed.flag("load") and _may_have_engine():
        return None
    progress = parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    if progress not in {"auto", "plain", "tty", "quiet", "none"}:
        return None
    root = _root(parsed)
    key = memo.key_of(parsed)
    found = memo.load(root, key) if root and key and is_private(root) else None
    if root is None or found is None or not memo.holds(found, root):
        return None
    quiet = parsed.flag("quiet")
    if not quiet and progress not in {"quiet", "none"}:
        steps = found["steps"]
        sys.stderr.write(_view(steps, progress))
    _write_results(parsed, found)
    if quiet:
        sys.stdout.write(f"{found['image_id']}\n")
    return 0


def _may_have_engine() -> bool:
    """Whether there may be a Docker engine that wants the image, too (`pybuild.exporter.docker.address`)."""
    if any(name in os.environ for name in ("DOCKER_HOST", "DOCKER_CONTEXT")):
        return True
    home = os.environ.get("DOCKER_CONFIG") or os.environ.get("HOME", "") + "/.docker"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    sockets = ("/var/run/docker.sock", runtime + "/docker.sock", home + "/contexts")
    return any(os.path.exists(path) for path in sockets)


def _root(parsed: Parsed) -> str | None:
    given = parsed.one("root")
    if given:
        return os.path.abspath(given)
    config = config_file(parsed.one("config"))
    if config is None:
        return default_root()
    try:
        import tomllib

        if doubt_of_file(config):
            return None
        with open(config, "rb") as file:
            root = tomllib.load(file).get("root", "")
    except (OSError, ValueError):
        return None
    return default_root(root) if isinstance(root, str) else None


def _view(steps: list[list[str]], progress: str) -> str:
    """The end of the chosen progress view when every step is cached."""
    lines: list[str] = []
    if progress == "tty" or (progress == "auto" and sys.stderr.isatty()):
        try:
            columns = os.get_terminal_size(2).columns
        except OSError:
            columns = 80
        colour = "NO_COLOR" not in os.environ
        blue, plain = ("\x1b[34m", "\x1b[0m") if colour else ("", "")
        lines.append(f"[+] Building 0.0s ({len(steps)}/{len(steps)}) FINISHED")
        for name, word in steps:
            label = f"CACHED {name}" if word == "CACHED" else name
            # A Dockerfile is not trusted with the terminal.
            label = "".join(char for char in label if char.isprintable())
            room = max(20, columns - 9)
            label = label if len(label) <= room else label[: room - 1] + "…"
            lines.append(f"{blue} => {label:<{room}} 0.0s{plain}")
        return "\n".join(lines) + "\n"
    for number, (name, word) in enumerate(steps, 1):
        lines += [f"#{number} {name}", f"#{number} {word}", ""]
    return "\n".join(lines) + "\n"


def _write_results(parsed: Parsed, found: dict[str, object]) -> None:
    iidfile, metadata = parsed.one("iidfile"), parsed.one("metadata-file")
    if not iidfile and not metadata:
        return
    from pybuild.exporter.atomicfile import write_whole

    if iidfile:
        write_whole(iidfile, str(found["image_id"]))
    if metadata:
        import json

        write_whole(metadata, json.dumps(found["metadata"], indent=2) + "\n")
