"""The fully cached build: proves from files alone that nothing changed, and says so.

Imports no parser, graph, event loop, database or HTTP client; a test holds it to that. When anything
at all is not as the memo says, it returns None and the whole engine decides.
"""

from __future__ import annotations

import os
import sys
import time

from pybuild.builds import memo
from pybuild.cache.disk.ownership import doubt_of_file, is_private
from pybuild.engine.paths import config_file, default_root
from pybuild.progress.screen import show_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    began = time.time()
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
    record = memo.load(root, key) if root and key and is_private(root) else None
    if root is None or record is None or not memo.holds(record, root):
        return None
    quiet = parsed.flag("quiet")
    if not quiet and progress not in {"quiet", "none"}:
        show_steps(record["steps"], progress)
        from pybuild.progress.screen import result_line

        sys.stderr.write(result_line(record["names"], record["image_id"]))
    if "iidfile" in parsed.values or "metadata-file" in parsed.values:
        from pybuild.commandline.resultfiles import write_results

        write_results(parsed, record["image_id"], record["metadata"])
    if quiet:
        sys.stdout.write(f"{record['image_id']}\n")
    _keep(root, began, record, is_quiet=quiet)
    return 0


def _keep(root: str, began: float, record: dict[str, Any], *, is_quiet: bool) -> None:
    """Keep the build in the history, now that its answer is given."""
    try:
        sys.stdout.flush()
    except OSError:
        pass  # it is told at the end, when this is tried again
    steps: list[list[str]] = record["steps"]
    cached = sum(word == "CACHED" for _, word in steps)
    facts = {
        **record.get("facts", {}),
        "seconds": round(max(0.0, time.time() - began), 3),
        "images": [record["image"]["digest"]],
        "image_id": record["image_id"],
        "names": record["names"],
        "rows": steps,
        "steps": {"total": len(steps), "completed": len(steps), "cached": cached},
    }
    try:
        memo.keep_build(root, began, facts)
    except OSError as error:
        if not is_quiet:
            reason = (error.strerror or str(error)).lower()
            sys.stderr.write(f"warning: this build is not in the history: {reason}\n")


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
