"""The ranges of uploads, as requests and answers say them; pure [end-5, end-13]."""

from __future__ import annotations

import re

from pybuild.model.dataclass import dataclass
from pybuild.registry.server.refusal import Refusal, RefusalCode

# The specification's form, and HTTP's own.
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The place of a body in its upload: its start and its length, None: not said."""

    start: int | None
    length: int | None


def chunk_of(content_range: str, content_length: int | None) -> Chunk:
    """Read the headers of a PATCH or PUT.

    Raises:
        Refusal: they make no sense, or contradict each other.
    """
    if not content_range:
        return Chunk(None, content_length)
    match = _CONTENT_RANGE.match(content_range)
    if match is None:
        raise Refusal(
            400, RefusalCode.BLOB_UPLOAD_INVALID, f'"{content_range[:100]}" is not a content range'
        )
    start, end = int(match[1]), int(match[2])
    length = end - start + 1
    if length < 1:
        raise Refusal(
            400, RefusalCode.BLOB_UPLOAD_INVALID, f"range {start}-{end} ends before it begins"
        )
    if content_length is not None and content_length != length:
        raise Refusal(
            400,
            RefusalCode.SIZE_INVALID,
            f"range {start}-{end} has {length} bytes, not {content_length}",
        )
    return Chunk(start, length)


def reached(offset: int) -> str:
    """Return the Range header of an upload with so many bytes; nothing is said as one byte is."""
    return f"0-{max(0, offset - 1)}"
