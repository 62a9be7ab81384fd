"""A bucket of S3 or of a service like it: the few requests that a cache makes.

All of it goes through aiobotocore, which is loaded here and nowhere else: it knows every way to get
credentials, and takes half a second to import.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.remotecache.places.s3options import S3Place

PART_BYTES = 16 << 20
_MOST_PARTS = 10_000
_PIECE_BYTES = 1 << 20
_TRIES = 4
PATIENCE_S = 6.0
"""A question whose answer is small is answered within this time, all tries together."""
_REST_S = 30.0
"""A service that said nothing for so long is not asked again for this long."""
_MISSING = frozenset(("404", "NoSuchKey", "NotFound", "NoSuchUpload"))
_CONFLICT = frozenset(("PreconditionFailed", "ConditionalRequestConflict", "412", "409"))
_NO_CONDITIONS = frozenset(("NotImplemented", "501"))
Progress = Callable[[int], None]


class S3Fault(EnvironmentFault):
    """The service did not do as requested.

    Attributes:
        status: the HTTP status; 0 when there was no answer.
        code: the service's own word for it.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "", hint: str = "") -> None:
        super().__init__(message, hints=[hint] if hint else [])
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """An object of a listing or a look; *modified* in seconds since the epoch."""

    key: str
    size: int
    modified: float
    etag: str = ""


class _Client(Protocol):
    """The client that aiobotocore makes from the service's description; answers are dicts."""

    def __getattr__(self, name: str) -> Callable[..., Any]: ...


class Bucket:
    """One bucket with one set of credentials. Close it.

    Raises:
        UserError: aiobotocore is not installed.
    """

    def __init__(self, place: S3Place) -> None:
        self._place = place
        self._stack = AsyncExitStack()
        self._client: _Client | None = None
        self._opening = asyncio.Lock()
        self._rests_until = 0.0
        self._uploads = asyncio.Semaphore(place.parallel)
        try:
            self._library: Any = importlib.import_module("aiobotocore.session")
            self._faults: Any = importlib.import_module("botocore.exceptions")
            self._config: Any = importlib.import_module("aiobotocore.config")
        except ImportError as error:
            raise UserError(
                "a cache in S3 needs aiobotocore, which is not installed",
                hints=["pip install 'pybuild-oci[s3]'"],
            ) from error

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._stack.aclose()

    async def head(self, key: str) -> S3Object | None:
        """Return an object without its bytes; None if there is none."""
        try:
            async with self.asking(f"look at {key}", quick=True) as client:
                answer = await client.head_object(Bucket=self._place.bucket, Key=key)
        except S3Fault as fault:
            if fault.code in _MISSING:
                return None
            raise
        modified = answer["LastModified"].timestamp()
        size = int(answer["ContentLength"])
        return S3Object(key=key, size=size, modified=modified, etag=str(answer.get("ETag") or ""))

    async def get(self, key: str, limit: int) -> tuple[bytes, str]:
        """Return a small object's bytes and its etag.

        Raises:
            S3Fault: it cannot be had, or has more than *limit* bytes.
        """
        data = bytearray()
        async with self.asking(f"read {key}", quick=True) as client:
            answer = await client.get_object(Bucket=self._place.bucket, Key=key)
        async with self.asking(f"read {key}"), answer["Body"] as body:
            while piece := await body.read(min(_PIECE_BYTES, limit + 1 - len(data))):
                data += piece
                if len(data) > limit:
                    raise S3Fault(f"read {self._url(key)}: more than {limit} bytes")
        return bytes(data), str(answer.get("ETag") or "")

    async def pieces(self, key: str, size: int) -> AsyncIterator[bytes]:
        """Yield an object's bytes, *size* at most; goes on where a connection breaks."""
        offset = failures = 0
        while offset < size:
            before = offset
            try:
                async with self.asking(f"read {key}") as client:
                    whole = {"Bucket": self._place.bucket, "Key": key}
                    some = {"Range": f"bytes={offset}-"} if offset else {}
                    answer = await client.get_object(**whole, **some)
                    async with answer["Body"] as body:
                        while offset < size and (
                            piece := await body.read(min(_PIECE_BYTES, size - offset))
                        ):
                            offset += len(piece)
                            yield piece
            except S3Fault as fault:
                failures = 0 if offset > before else failures + 1
                if fault.status or failures >= _TRIES:
                    raise
                continue
            if offset < size:
                raise S3Fault(f"read {self._url(key)}: {offset} of {size} bytes")

    async def put(self, key: str, data: bytes, expected: str | None) -> str | None:
        """Write a small object; return its etag, None if *expected* is not there.

        Args:
            expected: the etag of the object there, "" for none, None for any.
        """
        condition: dict[str, str] = {}
        if expected is not None:
            condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        try:
            return await self._put(key, data, condition)
        except S3Fault as fault:
            if condition and (fault.code in _CONFLICT or fault.code in _MISSING):
                return None
            if not condition or fault.code not in _NO_CONDITIONS:
                raise
        return await self._put(key, data, {})  # an old server: the last one to write wins

    async def _put(self, key: str, data: bytes, condition: dict[str, str]) -> str:
        async with self.asking(f"write {key}") as client:
            made = await client.put_object(
                Bucket=self._place.bucket, Key=key, Body=data, **condition
            )
        return str(made.get("ETag") or "")

    async def put_file(self, key: str, path: str, size: int, progress: Progress) -> None:
        """Write an object from a file; a large one in parts, each of which is tried again."""
        async with self._uploads:
            with await asyncio.to_thread(open, path, "rb") as file:
                if size <= PART_BYTES:
                    await self._put(key, await asyncio.to_thread(file.read), {})
                    progress(size)
                    return
                part_bytes = max(PART_BYTES, -(-size // _MOST_PARTS))
                whole = {"Bucket": self._place.bucket, "Key": key}
                async with self.asking(f"write {key}") as client:
                    begun = await client.create_multipart_upload(**whole)
                    whole |= {"UploadId": begun["UploadId"]}
                    try:
                        parts: list[dict[str, Any]] = []
                        sent = 0
                        while data := await asyncio.to_thread(file.read, part_bytes):
                            number = len(parts) + 1
                            part = await client.upload_part(**whole, PartNumber=number, Body=data)
                            parts.append({"PartNumber": number, "ETag": part["ETag"]})
                            sent += len(data)
                            progress(sent)
                        upload = {"Parts": parts}
                        await client.complete_multipart_upload(**whole, MultipartUpload=upload)
                    except BaseException:
                        await asyncio.shield(client.abort_multipart_upload(**whole))
                        raise

    async def touch(self, key: str) -> None:
        """Make an object as good as new, without moving its bytes."""
        bucket = self._place.bucket
        async with self.asking(f"touch {key}") as client:
            await client.copy_object(
                Bucket=bucket,
                Key=key,
                CopySource={"Bucket": bucket, "Key": key},
                MetadataDirective="REPLACE",
            )

    async def list(self, prefix: str, most: int, after: str = "") -> list[S3Object]:
        """Return up to *most* objects whose keys start with *prefix*, in the order of keys."""
        objects: list[S3Object] = []
        more = {"StartAfter": after} if after else {}
        while len(objects) < most:
            async with self.asking(f"list {prefix}") as client:
                page = await client.list_objects_v2(
                    Bucket=self._place.bucket, Prefix=prefix, **more
                )
            objects += [
                S3Object(
                    key=entry["Key"],
                    size=int(entry["Size"]),
                    modified=entry["LastModified"].timestamp(),
                )
                for entry in page.get("Contents") or ()
            ]
            if not page.get("IsTruncated") or not page.get("NextContinuationToken"):
                break
            more = {"ContinuationToken": page["NextContinuationToken"]}
        return objects[:most]

    async def delete(self, key: str) -> None:
        async with self.asking(f"delete {key}") as client:
            await client.delete_object(Bucket=self._place.bucket, Key=key)

    async def abort_uploads(self, prefix: str, before: float) -> None:
        """Give up the uploads below *prefix* that somebody began before then and never ended."""
        async with self.asking(f"list uploads of {prefix}") as client:
            page = await client.list_multipart_uploads(Bucket=self._place.bucket, Prefix=prefix)
            for one in page.get("Uploads") or ():
                if one["Initiated"].timestamp() < before:
                    await client.abort_multipart_upload(
                        Bucket=self._place.bucket, Key=one["Key"], UploadId=one["UploadId"]
                    )

    @asynccontextmanager
    async def asking(self, what: str, *, quick: bool = False) -> AsyncGenerator[_Client]:
        """Lend the client; its errors become an `S3Fault`.

        Args:
            quick: the answer is small; the service that does not give it rests for a while.
        """
        doing = f"{self._place.bucket}: {what}"
        loop, alarm = asyncio.get_running_loop(), asyncio.timeout(PATIENCE_S if quick else None)
        if loop.time() < self._rests_until:
            raise S3Fault(f"{doing}: no answer a moment ago, not asked again for a while")
        try:
            async with self._opening:
                if self._client is None:
                    self._client = await self._open()
            async with alarm:
                yield self._client
        except self._faults.ClientError as error:
            fault: dict[str, Any] = error.response.get("Error") or {}
            meta: dict[str, Any] = error.response.get("ResponseMetadata") or {}
            status, code = int(meta.get("HTTPStatusCode") or 0), str(fault.get("Code") or "")
            text = " ".join(str(fault.get("Message") or "").split())[:200]
            raise S3Fault(f"{doing}: {status} {code}: {text}", status=status, code=code) from error
        except self._faults.NoCredentialsError as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in to AWS"
            raise S3Fault(f"{doing}: no credentials found", status=401, hint=hint) from error
        except self._faults.BotoCoreError as error:
            raise S3Fault(f"{doing}: {' '.join(str(error).split())[:200]}") from error
        except (OSError, TimeoutError, _http_error()) as error:
            if quick and alarm.expired():
                self._rests_until = loop.time() + _REST_S
                raise S3Fault(f"{doing}: no answer for {PATIENCE_S:.0f} s") from error
            raise S3Fault(f"{doing}: {str(error) or type(error).__name__}") from error

    async def _open(self) -> _Client:
        place = self._place
        session = self._library.get_session()
        config = self._config.AioConfig(
            connect_timeout=10,
            read_timeout=60,
            retries={"max_attempts": _TRIES, "mode": "standard"},
            max_pool_connections=16,
            s3={"addressing_style": "path" if place.path_style else "auto"},
            # Servers of others refuse checksums that they do not know; every blob has its digest.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        region = place.region or session.get_config_variable("region") or "us-east-1"
        client: _Client = await self._stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=region,
                endpoint_url=place.endpoint_url or None,
                aws_access_key_id=place.access_key_id or None,
                aws_secret_access_key=place.secret_access_key or None,
                aws_session_token=place.session_token or None,
                config=config,
            )
        )
        return client

    def _url(self, key: str) -> str:
        return f"s3://{self._place.bucket}/{key}"


def _http_error() -> type[Exception]:
    import aiohttp

    return aiohttp.ClientError
