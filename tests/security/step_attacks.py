"""Attacks by what no cache key tells, and by files and repositories that somebody else may read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from tests.buildkit.llbs import Builder
from tests.daemon.buildsites import CONTROL
from tests.gitservers import Repository, http_backend
from tests.security.attacks import ATTACKS, Attack, attack, hears_nothing, parked
from tests.security.tenants import Stage, Tenant, marker
from tests.webservers import serving

# --- what no key tells ----------------------------------------------------------------------------


@attack
async def result_of_a_step_with_a_secret(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, other = marker(), marker("other")
    for line in (
        "RUN --mount=type=secret,id=t cat /run/secrets/t > /out-t || true",
        'RUN --mount=type=secret,id=t,env=T echo "$T" > /out-t',
    ):
        dockerfile = f"FROM base\n{line}\nRUN cp /out-t /copy\n"
        own = await a.build(dockerfile, lent={"t": text})
        assert text in own.files["out-t"], own.error
        await b.build(dockerfile)
        got = await b.build(dockerfile, lent={"t": other})
        assert text not in got.files.get("out-t", "") and text not in got.files.get("copy", "")
    hears_nothing(b, text)


@attack
async def copy_out_of_a_step_with_a_secret(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    dockerfile = (
        "FROM base AS x\nRUN --mount=type=secret,id=t cat /run/secrets/t > /t || true\n"
        "FROM scratch\nCOPY --from=x /t /t\n"
    )
    assert (await a.build(dockerfile, lent={"t": text})).files["t"] == text
    await b.build(dockerfile)
    hears_nothing(b, text)


def _mounts(options: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text = marker()
        id = marker("id")
        mount = f"--mount=type=cache,target=/c,{options}".replace("ID", id).rstrip(",")
        await a.build(f"FROM base\nRUN {mount} echo {text} > /c/f\n")
        look = f"FROM base\nRUN {mount} cat /c/* > /out-c 2>/dev/null; ls -R /c > /out-l; true\n"
        await b.build(look)
        await b.build(look, attrs={"no-cache": ""})
        hears_nothing(b, text)

    return run


for _title, _options in {
    "shared": "id=ID", "locked": "id=ID,sharing=locked", "private": "id=ID,sharing=private", "default": "",
    "other_user": "id=ID,uid=5,mode=0777",
}.items():  # fmt: skip
    ATTACKS[f"cache_mount_{_title}"] = _mounts(_options)


@attack
async def cache_mount_by_namespace(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, id = marker(), marker("id")
    mount = f"--mount=type=cache,id={id},target=/c"
    await a.build(f"FROM base\nRUN {mount} echo {text} > /c/f\n")
    for space in ("", "a", "..", "a/.."):
        await b.build(
            f"FROM base\nRUN {mount} cat /c/* > /out-c; true\n",
            attrs={"build-arg:BUILDKIT_CACHE_MOUNT_NS": space, "no-cache": ""},
        )
    hears_nothing(b, text)


@attack
async def poisoned_cache_mount(stage: Stage, a: Tenant, b: Tenant) -> None:
    bad, id = marker("poison"), marker("id")
    mount = f"--mount=type=cache,id={id},target=/c"
    step = f"RUN {mount} cat /c/f > /out-c 2>/dev/null || echo clean > /out-c"
    await b.build(f"FROM base\nRUN {mount} echo {bad} > /c/f\n")
    assert bad in (await b.build(f"FROM base\n{step}\n")).files["out-c"] or stage.share == "none"
    assert (await a.build(f"FROM base\n{step}\n")).files["out-c"] == "clean\n"


@attack
async def poisoned_proxy(stage: Stage, a: Tenant, b: Tenant) -> None:
    """The predefined proxies are in no key, yet they say where a step's bytes come from."""
    bad = marker("poison")
    dockerfile = f"FROM base\nRUN echo {marker('x')}; echo $HTTP_PROXY > /out-p\n"
    assert (
        bad
        in (await b.build(dockerfile, attrs={"build-arg:HTTP_PROXY": f"http://{bad}"})).files[
            "out-p"
        ]
    )
    assert bad not in (await a.build(dockerfile)).files["out-p"]
    hears_nothing(a, bad)


@attack
async def poisoned_hosts(stage: Stage, a: Tenant, b: Tenant) -> None:
    dockerfile = f"FROM base\nRUN echo {marker('x')}; cat /etc/hosts > /out-h\n"
    got = await b.build(dockerfile, attrs={"add-hosts": "pypi.example=6.6.6.6"})
    assert "6.6.6.6" in got.files["out-h"]
    got = await a.build(dockerfile, attrs={"add-hosts": "pypi.example=9.9.9.9"})
    assert "9.9.9.9" in got.files["out-h"] and "6.6.6.6" not in got.files["out-h"]


@attack
async def poisoned_cache_import(stage: Stage, a: Tenant, b: Tenant) -> None:
    """A cache says which layer a step makes; whoever names it believes that, and nobody else."""
    good, bad = marker("good"), marker("poison")
    dockerfile = f"FROM base\nRUN echo {good} > /out-x\nRUN cp /out-x /out-y\n"
    where = stage.folder / marker("cache")
    (where / "blobs/sha256").mkdir(parents=True)
    export = pb.CacheOptions(
        Exports=[
            pb.CacheOptionsEntry(
                Type="local", Attrs={"dest": "cache", "mode": "max", "compression": "uncompressed"}
            )
        ]
    )
    made = await b.build(dockerfile, layouts={"local:cache": where}, cache=export)
    assert made.files.get("out-x") == good + "\n", made.error
    root = _poisoned(where, json.loads(made.exported["cache.manifest"])["digest"], good, bad)
    stage.restart()  # nothing is under way, and b shall not have its own result any more
    await b.stream(CONTROL + "Prune", pb.PruneRequest(all=True).SerializeToString())
    imports = pb.CacheOptions(
        Imports=[pb.CacheOptionsEntry(Type="local", Attrs={"src": "cache", "digest": root})]
    )
    async with stage.tenants() as (fresh, other):
        await other.stream(CONTROL + "Prune", pb.PruneRequest(all=True).SerializeToString())
        await other.build(dockerfile, layouts={"local:cache": where}, cache=imports)
        got = await fresh.build(dockerfile)
        assert got.files["out-x"] == got.files["out-y"] == good + "\n"
        hears_nothing(fresh, bad)


def _poisoned(where: Path, root: str, good: str, bad: str) -> str:
    """Change what a layer of a cache holds, and every name of it; return the new root."""
    blobs = where / "blobs/sha256"
    renamed: dict[str, str] = {}
    for path in list(blobs.iterdir()):
        data = path.read_bytes()
        if good.encode() in data and not data.startswith(b"{"):
            changed = data.replace(good.encode(), (bad + " " * len(good))[: len(good)].encode())
            renamed[path.name] = hashlib.sha256(changed).hexdigest()
            (blobs / renamed[path.name]).write_bytes(changed)
    for _ in range(3):
        for path in list(blobs.iterdir()):
            data = path.read_bytes()
            changed = data
            for old, new in renamed.items():
                changed = changed.replace(old.encode(), new.encode())
            if changed != data and path.name not in renamed:
                renamed[path.name] = hashlib.sha256(changed).hexdigest()
                (blobs / renamed[path.name]).write_bytes(changed)
    name = root.removeprefix("sha256:")
    return "sha256:" + renamed.get(name, name)


# --- sources --------------------------------------------------------------------------------------


def _file(line: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text = marker()
        path = f"/{marker('f')}"
        stage.web.files[path] = text.encode()
        stage.web.authorization = "Bearer let-me-in"
        try:
            sum = hashlib.sha256(text.encode()).hexdigest()
            dockerfile = "FROM scratch\n" + line.format(url=stage.web.url + path, sum=sum) + "\n"
            lent = {"HTTP_AUTH_TOKEN_127.0.0.1": "let-me-in"}
            own = await a.build(dockerfile, lent=lent)
            assert text in "".join(own.files.values()), own.error
            for given in ({}, {"HTTP_AUTH_TOKEN_127.0.0.1": "wrong"}):
                assert (await b.build(dockerfile, lent=given)).error
        finally:
            stage.web.authorization = ""
        hears_nothing(b, text)

    return run


ATTACKS["file_behind_a_token"] = _file("ADD {url} /f")
ATTACKS["file_by_its_checksum"] = _file("ADD --checksum=sha256:{sum} {url} /f")


@attack
async def file_by_its_checksum_from_elsewhere(stage: Stage, a: Tenant, b: Tenant) -> None:
    """A server of one's own says 304 to whatever it is asked."""
    text = marker()
    path, elsewhere = f"/{marker('f')}", f"/{marker('nothing')}"
    stage.web.files[path] = text.encode()
    sum = hashlib.sha256(text.encode()).hexdigest()
    dockerfile = "FROM scratch\nADD --checksum=sha256:{} {} /f\n"
    assert (await a.build(dockerfile.format(sum, stage.web.url + path))).files["f"] == text
    assert (await b.build(dockerfile.format(sum, stage.web.url + elsewhere))).error
    hears_nothing(b, text)


@attack
async def file_of_a_definition_by_its_checksum(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, path = marker(), f"/{marker('f')}"
    stage.web.files[path] = text.encode()
    sum = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    builder = Builder()
    source = llb.SourceOp(identifier=stage.web.url + path, attrs={"http.checksum": sum})
    definition = builder.end(builder.add(llb.Op(source=source)))
    assert text in (await a.build("", definition=definition)).files.values()
    del stage.web.files[path]
    assert (await b.build("", definition=definition)).error
    hears_nothing(b, text)


_HEADER = "Basic YW5uOmh1bnRlcjI="


@contextmanager
def _repository(stage: Stage, text: str) -> Generator[tuple[str, str]]:
    """Serve a repository behind a password; give its URL and its commit."""
    where = stage.folder / marker("git")
    where.mkdir()
    repository = Repository(where / "x.git")
    commit = repository.commit({"secret": text}, message=f"about {text}")
    with serving(http_backend(where, _HEADER)) as url:
        yield f"{url}/x.git", commit


def _clones(dockerfile: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text = marker()
        with _repository(stage, text) as (url, commit):
            filled = dockerfile.format(url=url, commit=commit)
            own = await a.build(filled, lent={"GIT_AUTH_HEADER": _HEADER})
            assert text in "".join(own.files.values()), own.error
            for lent in ({}, {"GIT_AUTH_HEADER": "Basic YTpi"}):
                assert (await b.build(filled, lent=lent)).error
        hears_nothing(b, text)

    return run


ATTACKS["private_repository_by_branch"] = _clones("FROM scratch\nADD {url}#main /r\n")
ATTACKS["private_repository_by_commit"] = _clones("FROM scratch\nADD {url}#{commit} /r\n")
ATTACKS["private_repository_by_checksum"] = _clones(
    "FROM scratch\nADD --checksum={commit} {url} /r\n"
)


@attack
async def private_commit_through_a_repository_of_ones_own(
    stage: Stage, a: Tenant, b: Tenant
) -> None:
    text = marker()
    with _repository(stage, text) as (url, commit):
        dockerfile = "FROM scratch\nADD {}#{} /r\n"
        own = await a.build(dockerfile.format(url, commit), lent={"GIT_AUTH_HEADER": _HEADER})
        assert text in "".join(own.files.values()), own.error
        where = stage.folder / marker("git")
        where.mkdir()
        Repository(where / "y.git").commit({"junk": "x"})
        with serving(http_backend(where)) as evil:
            assert (await b.build(dockerfile.format(f"{evil}/y.git", commit))).error
    hears_nothing(b, text)


@attack
async def message_of_a_private_commit(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    with _repository(stage, text) as (url, commit):
        dockerfile = f"FROM scratch\nADD {url}#{commit} /r\n"
        await a.build(dockerfile, lent={"GIT_AUTH_HEADER": _HEADER})
        source = llb.SourceOp(
            identifier=f"git://{url.removeprefix('http://')}#{commit}",
            attrs={"git.fullurl": url},
        )
        asked = gateway.ResolveSourceMetaRequest(Source=source)
        asked.Git.ReturnObject = True
        await parked(b, {"ResolveSourceMeta": asked.SerializeToString()})
    hears_nothing(b, text)
