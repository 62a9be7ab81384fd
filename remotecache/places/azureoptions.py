"""The place of a cache in Azure's blob store: attributes as BuildKit has them [CCH-6]."""

from __future__ import annotations

import base64
import binascii
import os
import posixpath
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import parse_qsl, urlsplit

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError

SOURCE = frozenset(
    ("account_url", "account_name", "container", "name", "prefix", "manifests_prefix")
    + ("blobs_prefix", "secret_access_key")
)
TARGET = SOURCE
_VARIABLE = "BUILDKIT_AZURE_STORAGE_"
_KEY = "AZURE_STORAGE_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class AzurePlace:
    """One cache in a container of an account.

    Attributes:
        names: of its manifests; a read gives all of them together.
        secret: the account's key; empty where nobody gave one.
    """

    url: str
    account: str
    container: str = "buildkit-cache"
    names: tuple[str, ...] = ("buildkit",)
    prefix: str = ""
    manifests_prefix: str = "manifests"
    blobs_prefix: str = "blobs"
    secret: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return f"azblob:{self.url}/{self.container}/{self.manifest(';'.join(self.names))}"

    def manifest(self, name: str) -> str:
        """Return the name of a manifest's blob."""
        return posixpath.normpath(posixpath.join(self.prefix, self.manifests_prefix, name))

    def blob(self, digest: str) -> str:
        """Return the name of a layer's blob."""
        return posixpath.normpath(posixpath.join(self.prefix, self.blobs_prefix, digest))


def azure_place(attrs: Mapping[str, str], role: str) -> AzurePlace:
    """Read the attributes of an ``azblob`` cache, completed from the environment as BuildKit does it.

    Raises:
        UsageError: one is missing or wrong.
    """
    attrs = with_account(attrs, os.environ)
    url = attrs.get("account_url", "")
    if not url:
        raise UsageError(
            f"azblob cache {role} requires account_url",
            hints=["such as account_url=https://ACCOUNT.blob.core.windows.net"],
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise UsageError(f'azblob cache {role}: account_url="{url}": expected https://HOST')
    try:
        secret = base64.b64decode(attrs.get("secret_access_key", ""), validate=True)
    except (ValueError, binascii.Error) as error:
        raise UsageError(f"azblob cache {role}: secret_access_key is not base64") from error
    return AzurePlace(
        url=url.rstrip("/"),
        account=attrs.get("account_name") or parts.hostname.split(".")[0],
        container=attrs.get("container") or "buildkit-cache",
        names=tuple(name for name in attrs.get("name", "").split(";") if name) or ("buildkit",),
        prefix=attrs.get("prefix", "").strip("/"),
        manifests_prefix=attrs.get("manifests_prefix", "manifests").strip("/"),
        blobs_prefix=attrs.get("blobs_prefix", "blobs").strip("/"),
        secret=secret,
    )


def with_account(attrs: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return *attrs* with the account that the environment names, for this builder or one elsewhere."""
    completed = dict(attrs)
    for name in ("account_url", "account_name", "container", "prefix"):
        value = environ.get(_VARIABLE + name.upper(), "")
        if value and name not in completed:
            completed[name] = value
    if environ.get(_KEY) and not completed.get("secret_access_key"):
        completed["secret_access_key"] = environ[_KEY]
    return completed


def attrs_of_url(url: str) -> dict[str, str]:
    """Return the attributes that ``azblob://ACCOUNT/CONTAINER/PREFIX?account_url=…`` stands for.

    Raises:
        UsageError: it has something else.
    """
    parts = urlsplit(url)
    container, _, prefix = parts.path.strip("/").partition("/")
    attrs = {
        "account_url": f"https://{parts.netloc}.blob.core.windows.net",
        "account_name": parts.netloc,
        "container": container,
        "prefix": prefix,
    }
    if not parts.netloc or not container:
        raise UsageError(f'invalid --cache "{url}": expected azblob://ACCOUNT/CONTAINER/PREFIX')
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in TARGET - {"container", "prefix", "account_name"}:
            raise UsageError(f'azblob cache has no attribute "{name}"')
        attrs[name] = value
    return attrs
