"""A bucket whose service is silent costs a build seconds, and once [CCH-12]."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.remotecache.places import s3bucket
from pybuild.remotecache.places.s3bucket import Bucket, S3Fault
from pybuild.remotecache.places.s3options import S3Place

pytest.importorskip("aiobotocore")


@pytest.mark.slow
def test_a_silent_service_is_not_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3bucket, "PATIENCE_S", 0.2)
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        try:
            await reader.read(-1)
        finally:
            writer.close()

    async def work() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        place = S3Place(
            bucket="caches",
            region="x",
            endpoint_url=f"http://127.0.0.1:{port}",
            path_style=True,
            access_key_id="a",
            secret_access_key="b",
        )
        bucket = Bucket(place)
        try:
            with pytest.raises(S3Fault, match="read key: no answer for"):
                await bucket.get("key", 10)
            before = asked
            for _ in range(5):
                with pytest.raises(S3Fault, match="not asked again for a while"):
                    await bucket.head("key")
            assert asked == before
        finally:
            await bucket.close()
            server.close()

    asyncio.run(work())
