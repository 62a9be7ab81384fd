"""The services that keep caches besides registries: their places read, completed and opened [CCH]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pybuild.model.errors import UserError
from pybuild.remotecache.places import azureoptions, ghaoptions, s3options
from pybuild.remotecache.places.azureoptions import AzurePlace, azure_place
from pybuild.remotecache.places.ghaoptions import GhaPlace, gha_place
from pybuild.remotecache.places.s3options import S3Place, s3_place

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.remotecache.places.azblob import AzblobCache
    from pybuild.remotecache.places.gha import GhaCache
    from pybuild.remotecache.places.s3 import S3Cache

ServicePlace = S3Place | GhaPlace | AzurePlace
SOURCES = {"s3": s3options.SOURCE, "gha": ghaoptions.SOURCE, "azblob": azureoptions.SOURCE}
TARGETS = {"s3": s3options.TARGET, "gha": ghaoptions.TARGET, "azblob": azureoptions.TARGET}


def service_place(kind: str, attrs: Mapping[str, str], role: str) -> ServicePlace | None:
    """Read the attributes of a place at a service; None for caches that are elsewhere.

    Raises:
        UsageError: one is missing or wrong.
    """
    match kind:
        case "s3":
            return s3_place(attrs, role)
        case "gha":
            return gha_place(attrs, role)
        case "azblob":
            return azure_place(attrs, role)
        case _:
            return None


def with_credentials(
    kind: str, attrs: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return *attrs* with the credentials of the environment, for a server elsewhere."""
    match kind:
        case "s3":
            return s3options.with_credentials(attrs, environ)
        case "gha":
            return ghaoptions.with_job(attrs, environ)
        case "azblob":
            return azureoptions.with_account(attrs, environ)
        case _:
            return dict(attrs)


def is_nowhere(place: ServicePlace | None) -> bool:
    """Return whether a place is at a service that only jobs have, and this is none: builders skip it then."""
    return isinstance(place, GhaPlace) and not (place.url and place.token)


def open_service(engine: Engine, place: ServicePlace) -> S3Cache | GhaCache | AzblobCache:
    """Return the cache at a place, to be read and written."""
    if isinstance(place, GhaPlace):
        from pybuild.remotecache.places.gha import GhaCache

        return GhaCache(engine, place)
    if isinstance(place, AzurePlace):
        from pybuild.remotecache.places.azblob import AzblobCache

        return AzblobCache(engine, place)
    from pybuild.remotecache.places.s3 import S3Cache

    return S3Cache(engine, place)


def check_own_credentials(place: ServicePlace, attrs: Mapping[str, str]) -> None:
    """Check that a client's cache is reached with credentials of its own.

    Raises:
        UserError: it would be with the server's.
    """
    if isinstance(place, GhaPlace):
        return  # a token that is not given is none
    if isinstance(place, AzurePlace):
        if not (attrs.get("account_url") and attrs.get("secret_access_key")):
            raise UserError(
                "a cache in Azure's blob store needs account_url and secret_access_key here:"
                " the server's own are not lent",
                hints=["set AZURE_STORAGE_KEY where you build"],
            )
        return
    if not (place.access_key_id and attrs.get("bucket")):
        raise UserError(
            "a cache in S3 needs bucket, access_key_id and secret_access_key here:"
            " the server's own are not lent",
            hints=["set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where you build"],
        )
