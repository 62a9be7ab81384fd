"""The place of a cache in S3: attributes as BuildKit has them, and ``s3://bucket/prefix`` [CCH-5]."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import parse_qsl, urlsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.text import switch

SOURCE = frozenset(
    ("bucket", "region", "name", "prefix", "manifests_prefix", "blobs_prefix", "endpoint_url")
    + ("use_path_style", "access_key_id", "secret_access_key", "session_token")
)
TARGET = SOURCE | {"upload_parallelism", "touch_refresh"}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{1,254}\Z")  # an access point's name too
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Place:
    """One cache in a bucket.

    Attributes:
        names: of its manifests; a read gives all of them together.
        touch_s: a blob that is wanted again is marked as new when it is as old as that.
        parallel: uploads at once.
    """

    bucket: str
    region: str = ""
    names: tuple[str, ...] = ("buildkit",)
    prefix: str = ""
    manifests_prefix: str = "manifests/"
    blobs_prefix: str = "blobs/"
    endpoint_url: str = ""
    path_style: bool = False
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    touch_s: float = _DAY_S
    parallel: int = 4

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}{self.manifests_prefix}{';'.join(self.names)}"


def s3_place(attrs: Mapping[str, str], role: str) -> S3Place:
    """Read the attributes of an ``s3`` cache; credentials that are not given are looked for later.

    Raises:
        UsageError: one is missing or wrong.
    """
    bucket = attrs.get("bucket") or os.environ.get("AWS_BUCKET", "")
    if not bucket:
        raise UsageError(f"s3 cache {role} requires bucket")
    if not _BUCKET.match(bucket):
        raise UsageError(f'invalid bucket name "{bucket}"')
    endpoint = attrs.get("endpoint_url", "")
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise UsageError(f'cache attribute endpoint_url="{endpoint}": expected http:// or https://')
    key, secret = attrs.get("access_key_id", ""), attrs.get("secret_access_key", "")
    if bool(key) != bool(secret):
        raise UsageError("cache attributes access_key_id and secret_access_key belong together")
    return S3Place(
        bucket=bucket,
        region=attrs.get("region", ""),
        names=tuple(name for name in attrs.get("name", "").split(";") if name) or ("buildkit",),
        prefix=attrs.get("prefix", ""),
        manifests_prefix=attrs.get("manifests_prefix", "manifests/"),
        blobs_prefix=attrs.get("blobs_prefix", "blobs/"),
        endpoint_url=endpoint,
        path_style=bool(attrs.get("use_path_style"))
        and switch(attrs, "use_path_style", False, "cache"),
        access_key_id=key,
        secret_access_key=secret,
        session_token=attrs.get("session_token", ""),
        touch_s=_duration(attrs, "touch_refresh", _DAY_S),
        parallel=_number(attrs, "upload_parallelism", 4),
    )


def with_credentials(attrs: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return *attrs* with the environment's credentials and region, for a server elsewhere."""
    completed = dict(attrs)
    if not completed.get("access_key_id"):
        for name in ("access_key_id", "secret_access_key", "session_token"):
            if value := environ.get(f"AWS_{name.upper()}"):
                completed[name] = value
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if region and not completed.get("region"):
        completed["region"] = region
    return completed


def attrs_of_url(url: str) -> dict[str, str]:
    """Return the attributes that ``s3://bucket/prefix?region=…`` stands for.

    The prefix is a folder. Servers of one's own seldom have a host name a bucket, so with an
    ``endpoint_url`` the bucket goes into the path unless the URL says otherwise.

    Raises:
        UsageError: it has something else.
    """
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    attrs = {"bucket": parts.netloc, "prefix": prefix + "/" if prefix else ""}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in TARGET - {"bucket", "prefix"} | {"max-age", "max-size"}:
            known = ", ".join(sorted(TARGET - {"bucket", "prefix"}))
            raise UsageError(f'{parts.scheme} cache has no attribute "{name}"', hints=[known])
        attrs[name] = value
    if "endpoint_url" in attrs:
        attrs.setdefault("use_path_style", "true")
    return attrs


def _number(attrs: Mapping[str, str], name: str, default: int) -> int:
    text = attrs.get(name) or str(default)
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 64:
        raise UsageError(f'cache attribute {name}="{text}": a number from 1 to 64')
    return int(text)


def _duration(attrs: Mapping[str, str], name: str, default: float) -> float:
    if not attrs.get(name):
        return default
    from pybuild.model.amounts import parse_duration

    try:
        return parse_duration(attrs[name])
    except UsageError as error:
        raise UsageError(f"cache attribute {name}: {error.message}", hints=error.hints) from error
