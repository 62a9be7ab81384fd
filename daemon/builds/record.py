"""The record of a client's build in the history of the store: the same as that of a build in process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pybuild.buildkit.pb import control as pb
from pybuild.builds.recording import build_name
from pybuild.cache.content.buildhistory import Builds, OpenRecord
from pybuild.frontend.giturl import without_credentials
from pybuild.model.secrets import redacted_variables, secret_values, without_secrets

if TYPE_CHECKING:
    from pybuild.daemon.control.workplaces import Workplace

_ARG, _CAPS = "build-arg:", "frontend.caps"


def begin_record(request: pb.SolveRequest, workplace: Workplace, at: float) -> OpenRecord | None:
    """Open the record of a build; None for one that leaves no trace.

    That is what clients call internal, and what a guest of somebody else's store builds: others may read that one's
    history.
    """
    if request.Internal or workplace.guest:
        return None
    attrs = dict(request.FrontendAttrs)
    args = {
        name.removeprefix(_ARG): attrs.pop(name) for name in list(attrs) if name.startswith(_ARG)
    }
    context = without_credentials(attrs.get("context", ""))
    folder = context or attrs.get("vcs:localdir:context", "") or "context"
    dockerfile, target = attrs.get("filename", "Dockerfile"), attrs.get("target", "")
    shown = [f"{name}={value}" for name, value in sorted(args.items())]
    facts = {
        "ref": request.Ref,
        "name": args.get("BUILDKIT_BUILD_NAME")
        or build_name(folder if context else os.path.basename(folder), dockerfile, target),
        "context": context or folder,
        "dockerfile": dockerfile,
        "target": target,
        "args": redacted_variables(shown),
        "attrs": {
            name: without_secrets(without_credentials(value))
            for name, value in sorted(attrs.items())
            if name != _CAPS
        },
    }
    return Builds(workplace.engine.store).begin(at, facts, secret_values(args))
