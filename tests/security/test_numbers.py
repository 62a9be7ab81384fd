"""Numbers of strangers: of more digits than Python reads, in digits of other scripts, beyond all that can be.

Each is refused as what it is, or read as some bound; none ends in an error that nobody expects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from pybuild.buildkit.pb import ops as pb
from pybuild.daemon.frontend.attrs import read_attrs
from pybuild.daemon.session.sessions import SessionInfo
from pybuild.frontend.ignore import parse_ignore
from pybuild.image.runtimespec import resolve_identity
from pybuild.model import amounts, regex, wildcard
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.platform import Platform
from pybuild.net.grpc import timeouts
from pybuild.net.grpc.metadata import Metadata
from pybuild.registry.client.auth import lifetime_of
from pybuild.registry.client.ratelimits import RateLimit
from pybuild.registry.server import ranges
from pybuild.registry.server.refusal import Refusal
from tests.buildkit.llbs import Builder, copy, exec_op, file_op, mkdir, read_all
from tests.frontend.lowering import build

EXPECTED = (PybuildError, Refusal, ValueError)
NUMBERS = ("9" * 5_000, "1" + "0" * 400, "²", "٣", "1_0", "-" + "9" * 5_000, "9" * 30, "1e999")
PYTHONS_OWN = re.compile("integer string conversion|invalid literal for int|could not convert")
DIGEST = Digest.of(b"x")


def session(number: str) -> None:
    metadata = Metadata({"x-docker-expose-session-uuid": "id"})
    metadata.add("x-buildkit-session-health-custom-timeout", number)
    found = SessionInfo.read(metadata, "owner").health_s
    assert found is None or 1 <= found <= 3600


def dockerfile(text: str) -> Callable[[str], object]:
    return lambda number: build(text.replace("{}", number))


def attribute(name: str, text: str = "{}") -> Callable[[str], object]:
    return lambda number: read_attrs({name: text.replace("{}", number)})


def variant(number: str) -> None:
    one = Platform(os="linux", arch="arm", variant="v" + number)
    other = Platform(os="windows", arch="amd64", os_version=f"10.0.{number}")
    for platform in (one, other):
        platform.rank(platform)


def owner_of_a_mount(number: str) -> None:
    """The owner of a fresh directory that a definition mounts a cache on."""
    builder = Builder()
    made = mkdir("/d", -1, 0)
    made.mkdir.owner.user.byName.name = number
    made.mkdir.owner.user.byName.input = 0
    first = builder.add(file_op(mkdir("/x", -1, 0)))
    cache = pb.Mount(input=1, selector="/d", dest="/c", mountType=pb.CACHE)
    cache.cacheOpt.ID = "c"
    made.input = 0
    second = builder.add(file_op(made), first)
    read_all(builder.end(builder.add(exec_op(cache), first, second)))


def mode_of_a_copy(number: str) -> None:
    builder = Builder()
    first = builder.add(file_op(mkdir("/x", -1, 0)))
    action = copy(0, 0, 0, src="/x", dest="/y", modeStr=number)
    read_all(builder.end(builder.add(file_op(action), first)))


def from_json(text: str) -> dict[str, Any]:
    """Read what a stranger sent as its readers do, to whom all of that is no JSON."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return found


def descriptor(number: str) -> None:
    text = f'{{"mediaType": "a/b", "digest": "{DIGEST}", "size": {number}}}'
    assert Descriptor.from_json(from_json(text)).size < 1 << 63


def token(number: str) -> None:
    answer = from_json(f'{{"token": "t", "expires_in": {number}}}')
    assert 0 <= lifetime_of(answer, 0.0) <= 86400


READERS: dict[str, Callable[[str], object]] = {
    "session": session,
    "timeout": lambda number: timeouts.parse(number.encode() + b"S"),
    "EXPOSE": dockerfile("FROM scratch\nEXPOSE {}\n"),
    "chown": dockerfile("FROM scratch\nCOPY --chown={} a /\n"),
    "chmod": dockerfile("FROM scratch\nCOPY --chmod={} a /\n"),
    "USER": dockerfile("FROM scratch\nUSER {}\n"),
    "STOPSIGNAL": dockerfile("FROM scratch\nSTOPSIGNAL {}\n"),
    "HEALTHCHECK": dockerfile("FROM scratch\nHEALTHCHECK --retries={} CMD true\n"),
    "interval": dockerfile("FROM scratch\nHEALTHCHECK --interval={}s CMD true\n"),
    "from": dockerfile("FROM scratch\nCOPY --from={} a /\n"),
    "size": dockerfile("FROM scratch\nRUN --mount=type=tmpfs,target=/a,size={} true\n"),
    "uid": dockerfile("FROM scratch\nRUN --mount=type=cache,target=/a,uid={} true\n"),
    "mode": dockerfile("FROM scratch\nRUN --mount=type=secret,id=a,mode={} true\n"),
    "epoch": dockerfile("ARG SOURCE_DATE_EPOCH={}\nFROM scratch\n"),
    "expand": dockerfile("FROM scratch\nENV a=b${{}} c=${a:{}} d=${a#{}}\n"),
    "JSON": dockerfile("FROM scratch\nCMD [{}]\n"),
    "ulimit": attribute("ulimit", "nofile={}:{}"),
    "shm": attribute("shm-size"),
    "cpus": attribute("cpusetcpus", "{}-{}"),
    "shares": attribute("cpushares"),
    "memory": attribute("memory"),
    "caches": attribute("cache-imports", "[{}]"),
    "platform": attribute("platform", "linux/arm/v{}"),
    "attests": attribute("attest:provenance", "mode={}"),
    "variant": variant,
    "mount": owner_of_a_mount,
    "copy": mode_of_a_copy,
    "descriptor": descriptor,
    "token": token,
    "limits": lambda n: RateLimit.of({"RateLimit-Limit": f"{n};w={n}", "RateLimit-Remaining": n}),
    "range": lambda number: ranges.chunk_of(f"{number}-{number}", 5),
    "passwd": lambda number: resolve_identity("u", f"u:x:{number}:{number}::/:/\n", ""),
    "group": lambda number: resolve_identity("u", "u:x:1:1::/:/\n", f"g:x:{number}:u\n"),
    "user": lambda number: resolve_identity(f"{number}:{number}", "", ""),
    "amount": lambda number: amounts.parse_size(f"{number}GB", 1 << 40),
    "share": lambda number: amounts.parse_size(f"{number}%", 1 << 40),
    "binary": lambda number: amounts.parse_binary_size(f"{number}g", "memory"),
    "duration": lambda number: amounts.parse_duration(f"{number}h"),
    "wildcard": lambda number: wildcard.expand(f"a${{{number}}}", ["a", "b"]),
    "ignore": lambda number: parse_ignore(f"a[{number}]{{{number}}}\n".encode()),
}


@pytest.mark.parametrize("name", READERS)
def test_numbers(name: str) -> None:
    for number in NUMBERS:
        try:
            READERS[name](number)
        except EXPECTED as error:
            assert not PYTHONS_OWN.search(str(error)), number[:6]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:6])
def test_a_group_of_a_policy(number: str) -> None:
    pytest.importorskip("re2")
    try:
        regex.replace("(a)", "a", f"${{{number}}}")
    except EXPECTED as error:
        assert not PYTHONS_OWN.search(str(error))
