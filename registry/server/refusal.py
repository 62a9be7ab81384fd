"""The server's refusals: a status, and a code of the distribution specification."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum


class RefusalCode(StrEnum):
    """The specification's codes [code-1..14]; their text is what clients match on."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"


class Refusal(Exception):
    """The request is not granted; becomes the answer."""

    def __init__(
        self,
        status: int,
        code: RefusalCode,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        error = {"code": self.code, "message": self.message}
        return json.dumps({"errors": [error]}, ensure_ascii=False).encode()


def blob_unknown(digest: str) -> Refusal:
    return Refusal(404, RefusalCode.BLOB_UNKNOWN, f"blob {digest} is not in this repository")


def manifest_unknown(reference: str) -> Refusal:
    return Refusal(
        404, RefusalCode.MANIFEST_UNKNOWN, f"manifest {reference} is not in this repository"
    )


def name_unknown(name: str) -> Refusal:
    return Refusal(404, RefusalCode.NAME_UNKNOWN, f"repository {name} does not exist")


def digest_invalid(text: str) -> Refusal:
    return Refusal(
        400, RefusalCode.DIGEST_INVALID, f'"{text[:200]}" is not a sha256 or sha512 digest'
    )
