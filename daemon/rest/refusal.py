"""Answers that refuse: a status and one line; and the words that Docker's clients look for [ENG-20, ENG-21]."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Sequence

from pybuild.containers.starting import NotExecuted
from pybuild.model.errors import PybuildError, UserError, unwrap
from pybuild.model.printable import in_log


class ApiRefusal(Exception):
    """An answer that refuses.

    Attributes:
        message: one line.
        code: of a stream's last line, where that is the status of a program; 0: there is none.
    """

    def __init__(self, status: int, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = " ".join(message.split())


_WORDS: Sequence[tuple[str, int, str]] = (
    (r"no such container: (.*)", 404, r"No such container: \1"),
    (r"no such link: (.*)", 404, r"No such link: \1"),
    (
        r"cannot remove the default link name of .*",
        409,
        "Conflict, cannot remove the default link name of the container",
    ),
    (
        r"several containers have ids that begin with (.*)",
        400,
        r"multiple IDs found with provided prefix: \1",
    ),
    (
        r'the container name "(.*)" is already in use by container "(.*)"',
        409,
        (
            r'Conflict. The container name "/\1" is already in use by container "\2". You have to '
            r"remove (or rename) that container to be able to reuse that name."
        ),
    ),
    (
        r'container "(.*)" is running',
        409,
        (
            r'cannot remove container "/\1": container is running: stop the container before '
            r"removing or force remove"
        ),
    ),
    (
        r'container "(.*)" is paused and must be unpaused first',
        409,
        r'cannot remove container "/\1": container is paused and must be unpaused first',
    ),
    (r"container (\S+) is not running.*", 409, r"Container \1 is not running"),
    (
        r"container (\S+) is paused",
        409,
        r"Container \1 is paused, unpause the container before exec",
    ),
    (
        r"container (\S+) is restarting.*",
        409,
        r"Container \1 is restarting, wait until the container is running",
    ),
    (r"container (\S+) is already paused", 409, r"Container \1 is already paused"),
    (r"container (\S+) is not paused", 409, r"Container \1 is not paused"),
    (r"cannot join \w+ of a non running container: (.*)", 409, r"\g<0>"),
    (r"no such image: (.*)", 404, r"No such image: \1"),
    (r"image (\S+) not found.*", 404, r"\g<0>"),
    (r"get .*: no such volume", 404, r"\g<0>"),
    (r"remove \S+: volume is in use.*", 409, r"\g<0>"),
    (r"network .* not found", 404, r"\g<0>"),
    (r"network with name \S+ already exists", 409, r"\g<0>"),
    (r"\S+ is a pre-defined network and cannot be removed", 403, r"\g<0>"),
    (
        r"network (\S+) has active endpoints: (.*)",
        403,
        r"error while removing network: network \1 has active endpoints (\2)",
    ),
    (r"operation is not permitted on predefined .*", 403, r"\g<0>"),
    (r".*Pool overlaps with other one on this address space", 403, r"\g<0>"),
    (r"endpoint with name .* already exists in network .*", 403, r"\g<0>"),
    (r'plugin ".*" not found', 404, r"\g<0>"),
    (r'no log driver named "(.*)": .*', 400, r"logger: no log driver named '\1' is registered"),
    (
        r"invalid --oom-score-adj (\S+): .*",
        400,
        r"Invalid value \1, range for oom score adj is [-1000, 1000]",
    ),
    (r"Could not find the file .* in container .*", 404, r"\g<0>"),
    (r"image with reference \S+ was found but does not provide .*", 404, r"\g<0>"),
    (r"cannot update container .*", 409, r"\g<0>"),
    (r"the files of container \S+ cannot be reached: .*", 409, r"\g<0>"),
    (r"nobody serves the networks of container .*", 409, r"\g<0>"),
    (r'invalid filter "([^"=]*)=.*"', 400, r"invalid filter '\1'"),
)
_PATTERNS = [(re.compile(pattern, re.DOTALL), status, words) for pattern, status, words in _WORDS]


def refusal_of(error: PybuildError) -> ApiRefusal:
    """Return the answer for an error of ours, in Docker's words where clients know them."""
    for pattern, status, words in _PATTERNS:
        match = pattern.fullmatch(error.message)
        if match is not None:
            return ApiRefusal(status, match.expand(words))
    if isinstance(error, NotExecuted):
        return ApiRefusal(400 if error.status in (126, 127) else 500, error.message)
    return ApiRefusal(400 if isinstance(error, UserError) else 500, error.message)


def refusal_of_any(error: Exception) -> ApiRefusal:
    """Return the answer for any error; one that is none of ours is a bug, and told in full in the log."""
    known = unwrap(error)
    if isinstance(known, ApiRefusal):
        return known
    if isinstance(known, PybuildError):
        return refusal_of(known)
    if isinstance(known, OSError):
        return ApiRefusal(500, f"{known.strerror or known}")
    text = "".join(traceback.format_exception(error))
    sys.stderr.write(f"error: bug of the REST API:\n| {in_log(text)}\n")
    return ApiRefusal(500, "the server has a bug; its log says which")
