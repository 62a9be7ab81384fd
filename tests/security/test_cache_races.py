"""Steps that trade a directory of a cache for a link while another step's mounts are prepared [MNT-14]."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import Pybuild, make_base, write

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

_TRADES = (
    "i=0; while [ $i -lt 150 ]; do for p in {places};"
    " do rm -rf /c/$p; ln -s {link}/$p /c/$p; rm -f /c/$p; mkdir /c/$p; done;"
    " i=$((i+1)); done; for p in {places}; do rm -rf /c/$p; ln -s {link}/$p /c/$p; done"
)
_CACHE = "--mount=type=cache,id=x,sharing={sharing}"
# What another step has inside the cache, in a directory of that name; of the last, the directory itself.
_INNER = {
    "secret": "--mount=type=secret,id=s,target=/c/secret/s",
    "bind": "--mount=type=bind,source=f,target=/c/bind/s",
    "cache": "--mount=type=cache,id=y,target=/c/cache/s",
    "tmpfs": "--mount=type=tmpfs,target=/c/tmpfs/s",
    "source": _CACHE + ",source=source,target=/sub",
}
_TRIES = 4


@dataclass(frozen=True)
class Raced:
    """Return the remains of the race.

    Attributes:
        before, after: the directory outside that links led to, by the name of the mount.
    """

    store: Path
    before: dict[str, object]
    after: list[dict[str, object]]


@pytest.fixture(scope="module", params=["shared", "locked", "private"])
def raced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Raced:
    """Two builds in which three steps trade directories of a cache for links, while a fourth stage mounts there."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    where = tmp_path_factory.mktemp("races")
    pybuild = Pybuild(where / "store")
    make_base(pybuild, where / "base", "base")
    outside = where / "outside"
    for name in _INNER:
        (outside / name).mkdir(parents=True)
        (outside / name).chmod(0o777)
        (outside / name / "canary").write_text("canary")
    links = (str(outside), "../../../../../../../.." + str(outside), f"/proc/self/root{outside}")
    cache = _CACHE.format(sharing=request.param) + ",target=/c"
    lines = [
        f"FROM base AS t{n}\nARG again\n"
        f"RUN {cache} {_TRADES.format(link=link, places=' '.join(_INNER))}"
        for n, link in enumerate(links)
    ]
    lines.append("FROM base AS victim\nARG again")
    # Where the link leads is the step's own affair: a missing target is an error of its own.
    for n in range(_TRIES):
        for name, mount in _INNER.items():
            inner = mount.format(sharing=request.param)
            own = "" if name == "source" else cache
            lines.append(f"RUN {own} {inner} echo {n} > /sub/n; cat /c/{name}/s; true")
    lines += ["FROM base"] + [f"COPY --from=t{n} /etc /t{n}" for n in range(len(links))]
    lines.append("COPY --from=victim /etc /victim")
    context = write(where / "context", Dockerfile="\n".join(lines) + "\n", f="f")
    (where / "s").write_text("s3cr3t")
    before = _look(outside)
    after: list[dict[str, object]] = []
    for again in "12":  # the second time the caches have what the first one left
        words = ("--secret", f"id=s,src={where}/s", "--build-arg", f"again={again}")
        done = pybuild("build", *words, context, code=None)
        assert "RUN --mount=type=cache" in done.err
        after.append(_look(outside))
    return Raced(pybuild.store, before, after)


def _look(outside: Path) -> dict[str, object]:
    return {
        name: (sorted(os.listdir(outside / name)), (outside / name).stat().st_mtime_ns)
        for name in _INNER
    }


@pytest.mark.parametrize("inner", _INNER)
def test_a_mount_inside_a_cache_lands_in_no_directory_of_the_host(raced: Raced, inner: str) -> None:
    """However the links that are traded lead out; the builds may fail."""
    for after in raced.after:
        assert after[inner] == raced.before[inner]


def test_no_secret_stays_in_a_cache(raced: Raced) -> None:
    found = [
        path
        for path in (raced.store / "mounts").rglob("*")
        if path.is_file() and not path.is_symlink() and b"s3cr3t" in path.read_bytes()
    ]
    assert found == []
