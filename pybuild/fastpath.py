"""The fully cached build: proves from files alone that nothing changed, and says so.

Imports no parser, graph, event loop, database or HTTP client; a test holds it to that. When anything
at all is not as the memo says, it returns None and the whole engine decides.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from pybuild.builds import memo
from pybuild.cache.disk.ownership import is_private
from pybuild.engine.paths import root_by_file
from pybuild.progress.screen import show_steps

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
    "max-age",
    "pull",
    "secret",
    "source-policy-file",
    "ssh",
    "allow",
    "cache",
    "cache-to",
    "annotations",
    "break",
    "explain",
    "help",
)


def try_cached_build(parsed: Parsed) -> int | None:
    """Answer the build from its memo; None when it has to be looked at in earnest."""
    began = time.time()
    if any(name in parsed.values for name in _INELIGIBLE):
        return None
    if any(name in os.environ for name in (*memo.POLICY_VARIABLES, "GITHUB_STEP_SUMMARY")):
        return None  # what a policy says of a source is not in the memo, nor a page about the build
    if parsed.flag("load") and _may_have_engine():
        return None
    progress = parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    if progress not in {"auto", "plain", "tty", "quiet", "none"}:
        return None
    root = root_by_file(parsed.one("root"), parsed.one("config"))
    key = memo.key_of(parsed)
    record = memo.load(root, key) if root and key and is_private(root) else None
    if root is None or record is None or not memo.holds(record, root):
        return None
    quiet = parsed.flag("quiet")
    if not quiet and progress not in {"quiet", "none"}:
        show_steps(record["steps"], progress)
        if record["image_id"] and (record["names"] or record["is_kept"]):
            from pybuild.progress.screen import result_line

            sys.stderr.write(result_line(record["names"], record["image_id"]))
    if "iidfile" in parsed.values or "metadata-file" in parsed.values:
        from pybuild.exporter.resultfiles import write_results

        write_results(
            parsed.one("iidfile"),
            parsed.one("metadata-file"),
            record["image_id"],
            record["metadata"],
        )
    if quiet:
        sys.stdout.write(f"{record['image_id'] or ''}\n")
    with suppress(OSError):  # it is told at the end, when this is tried again
        sys.stdout.flush()
    try:
        memo.keep_answer(root, began, record)
    except OSError as error:
        if not quiet:
            reason = (error.strerror or str(error)).lower()
            sys.stderr.write(f"warning: this build is not in the history: {reason}\n")
    return 0


def _may_have_engine() -> bool:
    """Whether there may be a Docker engine that wants the image, too (`pybuild.exporter.docker.address`)."""
    if any(name in os.environ for name in ("DOCKER_HOST", "DOCKER_CONTEXT")):
        return True
    home = os.environ.get("DOCKER_CONFIG") or os.environ.get("HOME", "") + "/.docker"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    sockets = ("/var/run/docker.sock", runtime + "/docker.sock", home + "/contexts")
    return any(os.path.exists(path) for path in sockets)
