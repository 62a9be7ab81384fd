"""Names in progress for ops that bring none of their own."""

from __future__ import annotations

from collections.abc import Iterator

from pybuild.buildkit.llb.graph import Entry
from pybuild.buildkit.pb import ops as pb

CUSTOM = "llb.customname"
_MAX_NAME = 4096


def shown(entry: Entry) -> str:
    """Return the client's name, or one that describes the op."""
    given = entry.metadata.description.get(CUSTOM, "")
    return (given or _plain(entry.op))[:_MAX_NAME]


def _plain(op: pb.Op) -> str:
    match op.WhichOneof("op"):
        case "source":
            return op.source.identifier
        case "exec":
            return " ".join(op.exec.meta.args)
        case "file":
            return ", ".join(_actions(op.file))
        case "merge":
            return "merge"
        case "diff":
            return "diff"
        case _:
            return ""


def _actions(op: pb.FileOp) -> Iterator[str]:
    for action in op.actions[:100]:
        match action.WhichOneof("action"):
            case "copy":
                yield f"copy {action.copy.src} {action.copy.dest}"
            case "mkdir":
                yield f"mkdir {action.mkdir.path}"
            case "mkfile":
                yield f"mkfile {action.mkfile.path}"
            case "symlink":
                yield f"symlink {action.symlink.oldpath} {action.symlink.newpath}"
            case "rm":
                yield f"rm {action.rm.path}"
            case None:
                pass
