"""There is one way to ask by HTTP."""

from __future__ import annotations

import re

from tests.harness import ROOT
from tests.test_packaging import ROOMS

CLIENTS = re.compile(
    r"^[ \t]*(?:import|from) (aiohttp|http\.client|httpx|requests|urllib\.request|urllib3)\b",
    re.MULTILINE,
)


def test_nobody_asks_with_another_client() -> None:
    """aiohttp serves the registry, Docker's API and the page, and S3's own library asks with it. An engine elsewhere is asked by http.client."""
    paths = [path for room in ("pybuild", *ROOMS) for path in (ROOT / room).rglob("*.py")]
    others = {
        str(path.relative_to(ROOT))
        for path in paths
        if CLIENTS.search(path.read_text(encoding="utf-8"))
    }
    servers = ("daemon/rest/", "registry/server/", "web/")
    served = {name for name in others if name.startswith(servers)}
    assert served
    assert others - served == {
        "client/docker/requests.py",
        "remotecache/places/s3bucket.py",
    }
