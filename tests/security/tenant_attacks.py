"""What one client of a build server tries on another, by name.

Each attack is a function of a stage and its two clients, ``a`` whom something belongs to and ``b`` who is
after it, or who would slip something to the other. It raises AssertionError when that works.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from tests.buildkit.llbs import Builder
from tests.daemon.buildsites import CONTROL
from tests.daemon.libraries import CONFIG, LAYER, MANIFEST, Library, digest_of
from tests.gitservers import Repository, http_backend
from tests.security.tenants import BRIDGE, CONTENT, EXPLAIN, Outcome, Stage, Tenant, marker
from tests.webservers import serving

Attack = Callable[[Stage, Tenant, Tenant], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}
LOGIN = ("ann", "hunter2-hunter2")


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.removeprefix("_")] = function
    return function


def hears_nothing(tenant: Tenant, *secrets: str) -> None:
    for secret in secrets:
        assert secret.encode() not in tenant.seen, f"{tenant.name} has got {secret}"


def tarred(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def private_image(stage: Stage, text: str) -> tuple[str, str]:
    """Have the hub serve an image with *text* in it for Ann alone; return repository and digest."""
    repository = f"acme/{marker('r')}"
    digest = stage.hub.image(repository, "1", tarred(secret=text), Env=[f"CONFIG={text}"])
    stage.hub.passwords[repository] = ":".join(LOGIN)
    return repository, digest


async def poisons(
    stage: Stage, a: Tenant, b: Tenant, tag: str, dockerfile: str, mode: str = ""
) -> Outcome:
    """Let *b* give a bad tree the name *tag*; *a* must not get it from *dockerfile*."""
    bad = marker("poison")
    made = await b.build("FROM scratch\nCOPY f /poison\n", {"f": bad}, tag=tag)
    assert not made.error, made.error
    got = await a.build(dockerfile, mode=mode)
    assert bad not in "".join(got.files.values())
    hears_nothing(a, bad)
    return got


# --- names ----------------------------------------------------------------------------------------

MODES = ("", "local", "default", "pull")


def _tags(tag: str, name: str, real: bool, mode: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        got = await poisons(stage, a, b, tag, f"FROM {name}\n", mode)
        assert bool(got.files) == real, got.error

    return run


for _mode in MODES:
    for _title, _tag, _name, _real in (
        ("hub", "docker.io/library/base:latest", "base", True),
        ("loopback", "127.0.0.1:1/base:latest", "127.0.0.1:1/base:latest", False),
        ("short", "nosuch", "nosuch", False),
    ):
        ATTACKS[f"tag_of_{_title}_in_mode_{_mode or 'none'}"] = _tags(_tag, _name, _real, _mode)


@attack
async def tag_for_copy_from(stage: Stage, a: Tenant, b: Tenant) -> None:
    await poisons(stage, a, b, "base", "FROM scratch\nCOPY --from=base /etc/passwd /\n", "local")


@attack
async def tag_for_mount_from(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = "FROM base\nRUN --mount=from=base,target=/m ls /m > /l && cat /m/poison || true\n"
    await poisons(stage, a, b, "base", text, "local")


@attack
async def tag_for_named_context(stage: Stage, a: Tenant, b: Tenant) -> None:
    bad = marker("poison")
    await b.build("FROM scratch\nCOPY f /poison\n", {"f": bad}, tag="base")
    attrs = {"context:x": "docker-image://base"}
    got = await a.build("FROM x\n", attrs=attrs, mode="local")
    assert got.files and "poison" not in got.files, got.error
    hears_nothing(a, bad)


@attack
async def tag_with_digest(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    made = await a.build("FROM scratch\nCOPY f /\n", {"f": text}, tag="127.0.0.1:1/own:1")
    digest = made.exported["containerimage.digest"]
    for mode in ("local", ""):
        for name in (f"127.0.0.1:1/own@{digest}", f"127.0.0.1:1/own:1@{digest}"):
            assert (await b.build(f"FROM {name}\n", mode=mode)).error
    hears_nothing(b, text)


@attack
async def image_by_its_id(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    made = await a.build("FROM scratch\nCOPY f /\n", {"f": text}, tag="own-id")
    hexes = [
        made.exported[f"containerimage.{kind}"]
        for kind in ("digest", "config.digest")
        if f"containerimage.{kind}" in made.exported
    ]
    for digest in hexes:
        for name in (digest, digest.removeprefix("sha256:"), digest.removeprefix("sha256:")[:12]):
            await b.build(f"FROM {name}\n", mode="local")
    hears_nothing(b, text)


@attack
async def equal_tags_stay_apart(stage: Stage, a: Tenant, b: Tenant) -> None:
    texts = marker("one"), marker("two")
    for tenant, text in zip((a, b), texts, strict=True):
        await tenant.build("FROM scratch\nCOPY f /\n", {"f": text}, tag="same:latest")
    for tenant, text in zip((a, b), texts, strict=True):
        got = await tenant.build("FROM same:latest\n", mode="local")
        if stage.share != "none":
            assert got.files["f"] == text, got.error
    hears_nothing(a, texts[1])
    hears_nothing(b, texts[0])


@attack
async def name_of_the_servers_own_user(stage: Stage, a: Tenant, b: Tenant) -> None:
    """What root has built on the same store is nobody's base but root's."""
    text = marker()
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY f /\n")
    (context / "f").write_text(text)
    stage.pybuild("build", "-t", "roots", context)
    assert (await b.build("FROM roots\n", mode="local")).error
    hears_nothing(b, text)


@attack
async def name_given_to_the_servers_own_user(stage: Stage, a: Tenant, b: Tenant) -> None:
    bad = marker("poison")
    await b.build("FROM scratch\nCOPY f /poison\n", {"f": bad}, tag="docker.io/library/base:latest")
    assert bad not in stage.pybuild("images").out
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM base\n")
    out = context / "out"
    stage.pybuild("build", "-o", out, context)
    assert (out / "etc/passwd").exists() and not (out / "poison").exists()


@attack
async def list_of_the_servers_images(stage: Stage, a: Tenant, b: Tenant) -> None:
    name = marker("name")
    await a.build("FROM scratch\nCOPY Dockerfile /\n", tag=name)
    for words in (["images"], ["registry", "ls"], ["history"], ["explain"]):
        assert name not in stage.pybuild(*words, code=None).out


# --- private images -------------------------------------------------------------------------------


def _asks(
    dockerfile: str, mode: str = "", login: tuple[str, str] | None = None, **attrs: str
) -> Attack:
    """Let Ann's client pull a private image, then another ask for it without her password."""

    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text = marker()
        repository, digest = private_image(stage, text)

        def filled(line: str) -> str:
            return line.format(name=f"{repository}:1", digest=f"{repository}@{digest}")

        given = {name: filled(value) for name, value in attrs.items()}
        given = {name.replace("__", ":"): value for name, value in given.items()}
        own = await a.build(filled(dockerfile), login=LOGIN, attrs=given, mode=mode)
        assert text in "".join(own.files.values()), own.error
        got = await b.build(filled(dockerfile), login=login, attrs=given, mode=mode)
        assert got.error
        hears_nothing(b, text)

    return run


_USES: dict[str, tuple[str, dict[str, str]]] = {
    "base": ("FROM {name}\n", {}),
    "base_by_digest": ("FROM {digest}\n", {}),
    "copy": ("FROM scratch\nCOPY --from={name} /secret /s\n", {}),
    "copy_by_digest": ("FROM scratch\nCOPY --from={digest} /secret /s\n", {}),
    "step_above": ("FROM {name} AS x\nFROM base\nCOPY --from=x /secret /s\nRUN cat /s > /t\n", {}),
    "mount": ("FROM base\nRUN --mount=from={digest},target=/m cat /m/secret > /s\n", {}),
    "named_context": ("FROM x\n", {"context__x": "docker-image://{name}"}),
    "context_for_copy": (
        "FROM scratch\nCOPY --from=x /secret /s\n",
        {"context__x": "docker-image://{digest}"},
    ),
}  # fmt: skip
for _use, (_text, _attrs) in _USES.items():
    for _mode in ("", "local"):
        ATTACKS[f"private_{_use}_in_mode_{_mode or 'none'}"] = _asks(_text, _mode, None, **_attrs)
ATTACKS["private_base_with_a_wrong_password"] = _asks("FROM {name}\n", "", ("ann", "wrong"))
ATTACKS["private_base_as_somebody_else"] = _asks("FROM {digest}\n", "local", ("bob", LOGIN[1]))


@attack
async def private_image_while_it_is_pulled(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    repository, digest = private_image(stage, text)
    dockerfile = f"FROM {repository}@{digest} AS x\nFROM base\nCOPY --from=x /secret /s\nRUN sleep 1; cat /s > /t\n"
    own, got = await asyncio.gather(a.build(dockerfile, login=LOGIN), b.build(dockerfile))
    assert own.files.get("t") == text and got.error, own.error
    hears_nothing(b, text)


@attack
async def private_image_in_a_definition(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    repository, digest = private_image(stage, text)
    builder = Builder()
    source = llb.SourceOp(identifier=f"docker-image://docker.io/{repository}@{digest}")
    definition = builder.end(builder.add(llb.Op(source=source)))
    assert (await a.build("", login=LOGIN, definition=definition)).files.get("secret") == text
    assert (await b.build("", definition=definition)).error
    local = llb.SourceOp(identifier=source.identifier, attrs={"image.resolvemode": "local"})
    builder = Builder()
    assert (await b.build("", definition=builder.end(builder.add(llb.Op(source=local))))).error
    hears_nothing(b, text)


async def _parked(tenant: Tenant, questions: dict[str, bytes]) -> None:
    """Begin a build that the client drives, and ask the gateway."""
    ref = marker("ref")
    async with ClientSession(file_sync({})).open(tenant.channel) as session:
        request = pb.SolveRequest(Ref=ref, Session=session.id).SerializeToString()
        building = asyncio.create_task(tenant.ask(CONTROL + "Solve", request))
        for method, question in questions.items():
            await tenant.ask(BRIDGE + method.partition("#")[0], question, ref=ref)
        end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
        await tenant.ask(BRIDGE + "Return", end, ref=ref)
        await building


@attack
async def config_of_a_private_image(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    repository, digest = private_image(stage, text)
    await a.build(f"FROM {repository}:1\n", login=LOGIN)
    questions: dict[str, bytes] = {}
    for number, name in enumerate(
        (f"docker.io/{repository}:1", f"docker.io/{repository}@{digest}")
    ):
        for mode in ("default", "local"):
            asked = gateway.ResolveImageConfigRequest(Ref=name, ResolveMode=mode)
            questions[f"ResolveImageConfig#{number}{mode}"] = asked.SerializeToString()
            source = llb.SourceOp(identifier=f"docker-image://{name}")
            meta = gateway.ResolveSourceMetaRequest(Source=source, ResolveMode=mode)
            questions[f"ResolveSourceMeta#{number}{mode}"] = meta.SerializeToString()
    await _parked(b, questions)
    hears_nothing(b, text)


@attack
async def password_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    """No request for one client is made with the credentials of another."""
    repository, _ = private_image(stage, marker())
    await a.build(f"FROM {repository}:1\n", login=LOGIN)
    before = len(stage.hub.asked)
    assert (await b.build(f"FROM {repository}:1\n", mode="pull")).error
    assert not any(user for _, _, user in stage.hub.asked[before:])


@attack
async def right_that_was_taken_away(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    repository, _ = private_image(stage, text)
    assert (await a.build(f"FROM {repository}:1\n", login=LOGIN)).files.get("secret") == text
    stage.hub.passwords[repository] = "ann:changed"
    assert (await a.build(f"FROM {repository}:1\n", login=LOGIN)).error


def _lie(served: Library, layer: bytes, diff_id: str, *, has_bytes: bool = False) -> str:
    """Serve an image that claims somebody else's layer; return its repository."""
    repository = f"evil/{marker('r')}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    held = served.blob(repository, json.dumps(config).encode())
    claimed = {"digest": digest_of(layer), "size": len(layer)}
    if has_bytes:
        served.blob(repository, layer)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, **held},
        "layers": [{"mediaType": LAYER, **claimed}],
    }
    served.put(repository, "1", json.dumps(manifest).encode())
    return f"{served.host}/{repository}"


@attack
async def layer_claimed_by_a_registry_of_ones_own(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    repository, _ = private_image(stage, text)
    await a.build(f"FROM {repository}:1\n", login=LOGIN)
    layer = tarred(secret=text)
    evil = _lie(stage.hub, layer, digest_of(layer))
    for dockerfile in (f"FROM {evil}:1\n", f"FROM base\nCOPY --from={evil}:1 /secret /s\n"):
        assert (await b.build(dockerfile)).error
    hears_nothing(b, text)


@attack
async def layer_claimed_under_another_blob(stage: Stage, a: Tenant, b: Tenant) -> None:
    """The blob is there, but the config says that it is somebody else's layer."""
    text = marker()
    repository, _ = private_image(stage, text)
    await a.build(f"FROM {repository}:1\n", login=LOGIN)
    evil = _lie(stage.hub, tarred(junk="x"), digest_of(tarred(secret=text)), has_bytes=True)
    await b.build(f"FROM {evil}:1\n")
    hears_nothing(b, text)


@attack
async def layer_of_a_step_claimed(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    await a.build("FROM base\nCOPY f /secret\nRUN cat /secret > /t\n", {"f": text}, tag="steps")
    owners = stage.pybuild.store / "owners"
    made = [path for path in owners.glob("*/blobs/sha256/*") if path.stat().st_size < 4096]
    for path in made:
        data = path.read_bytes()
        if text.encode() not in _unpacked(data) or data.startswith(b"{"):
            continue
        evil = _lie(stage.hub, data, digest_of(_unpacked(data)))
        await b.build(f"FROM {evil}:1\n")
    hears_nothing(b, text)


def _unpacked(data: bytes) -> bytes:
    import gzip

    try:
        return gzip.decompress(data)
    except OSError:
        return data


def _layout(stage: Stage, layer: bytes, diff_id: str) -> tuple[Path, str]:
    """Write a layout that names a layer and does not have it."""
    where = stage.folder / marker("layout")
    blobs = where / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, **put(json.dumps(config).encode())},
        "layers": [{"mediaType": LAYER, "digest": digest_of(layer), "size": len(layer)}],
    }
    return where, str(put(json.dumps(manifest).encode())["digest"])


@attack
async def layer_claimed_by_a_layout(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    repository, _ = private_image(stage, text)
    await a.build(f"FROM {repository}:1\n", login=LOGIN)
    layer = tarred(secret=text)
    where, digest = _layout(stage, layer, digest_of(layer))
    got = await b.build(
        "FROM x\n",
        attrs={"context:x": f"oci-layout://mine@{digest}"},
        layouts={"oci:mine": where, "mine": where},
    )
    assert got.error
    hears_nothing(b, text)


@attack
async def layout_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    layer = tarred(secret=text)
    where, digest = _layout(stage, layer, digest_of(layer))
    (where / "blobs/sha256" / digest_of(layer)[7:]).write_bytes(layer)
    attrs = {"context:x": f"oci-layout://mine@{digest}"}
    own = await a.build("FROM x\n", attrs=attrs, layouts={"oci:mine": where, "mine": where})
    assert own.files.get("secret") == text, own.error
    empty = stage.folder / marker("empty")
    (empty / "blobs/sha256").mkdir(parents=True)
    assert (
        await b.build("FROM x\n", attrs=attrs, layouts={"oci:mine": empty, "mine": empty})
    ).error
    assert (await b.build("FROM x\n", attrs=attrs)).error
    hears_nothing(b, text)


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
        await _parked(b, {"ResolveSourceMeta": asked.SerializeToString()})
    hears_nothing(b, text)


# --- sessions and builds --------------------------------------------------------------------------


@attack
async def session_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY f /\n")
    (context / "f").write_text(text)
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    async with ClientSession(offered).open(a.channel) as session:
        request = pb.SolveRequest(Ref=marker("r"), Session=session.id, Frontend="dockerfile.v0")
        await b.ask(CONTROL + "Solve", request.SerializeToString())
        builder = Builder()
        local = llb.SourceOp(identifier="local://context", attrs={"local.session": session.id})
        assert (await b.build("", definition=builder.end(builder.add(llb.Op(source=local))))).error
        policy = pb.SolveRequest(Ref=marker("r"), SourcePolicySession=session.id)
        await b.ask(CONTROL + "Solve", policy.SerializeToString())
    hears_nothing(b, text)


@attack
async def session_id_taken_first(stage: Stage, a: Tenant, b: Tenant) -> None:
    """Whoever knows the id that another session will have does not stand in for it."""
    id, text = marker("id"), marker()
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    async with ClientSession(offered, id=id).open(b.channel):
        (context / "Dockerfile").write_text(f"FROM scratch\nCOPY Dockerfile /{text}\n")
        async with ClientSession(offered, id=id).open(a.channel):
            pass
    hears_nothing(b, text)


@attack
async def build_of_somebody_else_driven(stage: Stage, a: Tenant, b: Tenant) -> None:
    ref = marker("ref")
    text = marker()
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY f /\n")
    (context / "f").write_text(text)
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    async with ClientSession(offered).open(a.channel) as session:
        request = pb.SolveRequest(Ref=ref, Session=session.id).SerializeToString()
        building = asyncio.create_task(a.ask(CONTROL + "Solve", request))
        asked = gateway.SolveRequest(
            Frontend="dockerfile.v0", allowResultReturn=True, Evaluate=True
        )
        asked.allowResultArrayRef = True
        found = gateway.SolveResponse.FromString(
            await a.ask(BRIDGE + "Solve", asked.SerializeToString(), ref=ref)
        )
        read = gateway.ReadFileRequest(Ref=found.result.ref.id, FilePath="f").SerializeToString()
        assert text.encode() in await a.ask(BRIDGE + "ReadFile", read, ref=ref)
        for method, data in (
            ("ReadFile", read),
            ("Solve", asked.SerializeToString()),
            ("Ping", b""),
        ):
            assert await b.ask(BRIDGE + method, data, ref=ref) == b""
        end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
        await b.ask(BRIDGE + "Return", end, ref=ref)
        await a.ask(BRIDGE + "Return", end, ref=ref)
        await building
    hears_nothing(b, text)


@attack
async def reference_of_another_build(stage: Stage, a: Tenant, b: Tenant) -> None:
    """An id of a result means nothing in another build."""
    ref = marker("ref")
    async with ClientSession(file_sync({})).open(b.channel) as session:
        request = pb.SolveRequest(Ref=ref, Session=session.id).SerializeToString()
        building = asyncio.create_task(b.ask(CONTROL + "Solve", request))
        read = gateway.ReadFileRequest(Ref=marker("id"), FilePath="etc/passwd").SerializeToString()
        assert await b.ask(BRIDGE + "ReadFile", read, ref=ref) == b""
        end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
        await b.ask(BRIDGE + "Return", end, ref=ref)
        await building


@attack
async def directory_under_an_equal_key(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, key = marker(), marker("key")
    await a.build("FROM scratch\nCOPY . /\n", {"f": text}, shared_key=key)
    got = await b.build("FROM scratch\nCOPY . /\n", {"f": "x" * len(text)}, shared_key=key)
    assert text not in got.files["f"]
    hears_nothing(b, text)


# --- what the server tells ------------------------------------------------------------------------


async def _told(a: Tenant) -> tuple[str, list[str]]:
    """Let *a* build something that says its secret wherever it can."""
    text = marker()
    made = await a.build(
        f"FROM base\nARG TOKEN\nRUN echo {text}-log; echo {text} > /f\n",
        attrs={"build-arg:TOKEN": text, "label:x": text},
        tag=f"private.example/{text}:1",
    )
    assert not made.error
    return text, [made.ref]


@attack
async def history_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, (ref,) = await _told(a)
    assert text.encode() in b"".join(r.SerializeToString() for r in await a.history(ref))
    assert await b.history(ref) == []
    await b.history()
    hears_nothing(b, text, ref)


@attack
async def history_while_it_happens(stage: Stage, a: Tenant, b: Tenant) -> None:
    request = pb.BuildHistoryRequest(ActiveOnly=True).SerializeToString()
    heard = bytearray()

    async def listen() -> None:
        async with b.channel.stream(CONTROL + "ListenBuildHistory") as call:
            await call.send(request)
            await call.half_close()
            while (message := await call.receive()) is not None:
                heard.extend(message)

    listening = asyncio.create_task(listen())
    text, (ref,) = await _told(a)
    await b.build("FROM scratch\nCOPY Dockerfile /\n")  # which is heard of
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert heard and text.encode() not in heard and ref.encode() not in heard


@attack
async def progress_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, (ref,) = await _told(a)
    await b.stream(CONTROL + "Status", pb.StatusRequest(Ref=ref).SerializeToString())
    hears_nothing(b, text)


@attack
async def history_taken_away(stage: Stage, a: Tenant, b: Tenant) -> None:
    _, (ref,) = await _told(a)
    for request in (
        pb.UpdateBuildHistoryRequest(Ref=ref, Delete=True),
        pb.UpdateBuildHistoryRequest(Ref=ref, Pinned=True),
    ):
        await b.ask(CONTROL + "UpdateBuildHistory", request.SerializeToString())
    (record,) = await a.history(ref)
    assert not record.pinned


@attack
async def content_of_somebody_elses_history(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, (ref,) = await _told(a)
    (record,) = await a.history(ref)
    digests = [record.logs.digest, record.trace.digest, *_digests(record)]
    for digest in filter(None, digests):
        assert await b.content(digest) == b""
        info = pb_info(digest)
        assert await b.ask(CONTENT + "Info", info) == b""
    hears_nothing(b, text)


def _digests(record: pb.BuildHistoryRecord) -> list[str]:
    found = [one.digest for one in record.Result.Results.values()]
    return found + [one.digest for one in record.Result.Attestations]


def pb_info(digest: str) -> bytes:
    from pybuild.buildkit.pb import content

    return content.InfoRequest(digest=digest).SerializeToString()


@attack
async def content_of_the_store(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    made = await a.build("FROM scratch\nCOPY f /\n", {"f": text}, tag="store")
    for digest in {value for value in made.exported.values() if value.startswith("sha256:")}:
        assert await b.content(digest) == b""
    for path in list(stage.pybuild.store.glob("**/blobs/sha256/*"))[:200]:
        if text.encode() in path.read_bytes():
            assert await b.content(f"sha256:{path.name}") == b""
    hears_nothing(b, text)


def _explains(request: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text, (ref,) = await _told(a)
        await b.stream(EXPLAIN, request.replace("REF", ref).encode())
        hears_nothing(b, text)

    return run


for _title, _request in {
    "latest": "{}",
    "all": '{"all": true}',
    "by_ref": '{"ref": "REF"}',
}.items():
    ATTACKS[f"explanation_{_title}"] = _explains(_request)


@attack
async def explanation_by_the_nearest_result(stage: Stage, a: Tenant, b: Tenant) -> None:
    """A miss is explained by what differs, which must not be taken from somebody else."""
    text = marker()
    dockerfile = "FROM base\nARG V\nCOPY . /d\nRUN echo $V > /f\n"
    await a.build(dockerfile, {text: "x"}, attrs={"build-arg:V": text})
    await b.build(dockerfile, {"other": "y"}, attrs={"build-arg:V": "other"})
    await b.stream(EXPLAIN, b"{}")
    hears_nothing(b, text)


def _usage(*filters: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text, _ = await _told(a)
        request = pb.DiskUsageRequest(filter=filters)
        await b.ask(CONTROL + "DiskUsage", request.SerializeToString())
        hears_nothing(b, text)

    return run


ATTACKS["usage_of_somebody_else"] = _usage()
ATTACKS["usage_of_cache_mounts"] = _usage("type==exec.cachemount")


@attack
async def prune_of_somebody_elses_cache(stage: Stage, a: Tenant, b: Tenant) -> None:
    dockerfile = f"FROM base\nRUN echo {marker('x')} > /f\n"
    await a.build(dockerfile)
    heard = await b.stream(CONTROL + "Prune", pb.PruneRequest(all=True).SerializeToString())
    again = await a.build(dockerfile)
    if stage.share != "none":
        assert any("RUN" in name for name in again.cached), (again.ran, heard)
    hears_nothing(b, dockerfile.split()[4])


@attack
async def workers_tell_nothing(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, _ = await _told(a)
    await b.ask(CONTROL + "ListWorkers")
    await b.ask(CONTROL + "Info")
    hears_nothing(b, text)


@attack
async def guess_by_what_is_cached(stage: Stage, a: Tenant, b: Tenant) -> None:
    """Nobody learns from a hit what somebody else has built, unless both share on purpose."""
    guess = marker()
    dockerfile = f"FROM base\nRUN echo {guess} > /f\n"
    await a.build(dockerfile)
    got = await b.build(dockerfile)
    is_cached = any("RUN" in name for name in got.cached)
    assert is_cached == (stage.share == "all"), got.cached
    again = any("RUN" in name for name in (await b.build(dockerfile)).cached)
    assert again == (stage.share != "none")


@attack
async def guess_of_a_file_that_was_copied(stage: Stage, a: Tenant, b: Tenant) -> None:
    files = {"f": marker()}
    await a.build("FROM base\nCOPY f /f\nRUN cat /f > /g\n", files)
    got = await b.build("FROM base\nCOPY f /f\nRUN cat /f > /g\n", files)
    assert any("RUN" in name for name in got.cached) == (stage.share == "all")


@attack
async def step_of_somebody_else_while_it_runs(stage: Stage, a: Tenant, b: Tenant) -> None:
    """Two equal steps with secrets of their owners at once: each has its own."""
    texts = marker("one"), marker("two")
    dockerfile = f"FROM base\nRUN --mount=type=secret,id=t sleep 1; echo {marker('x')}; cat /run/secrets/t | tee /out-t\n"
    got = await asyncio.gather(
        *(t.build(dockerfile, lent={"t": text}) for t, text in zip((a, b), texts, strict=True))
    )
    assert [one.files["out-t"] for one in got] == list(texts)
    hears_nothing(a, texts[1])
    hears_nothing(b, texts[0])


@attack
async def names_after_a_restart(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    await a.build("FROM scratch\nCOPY f /\n", {"f": text}, tag="kept")
    stage.restart()
    async with stage.tenants() as (first, second):
        own = await first.build("FROM kept\n", mode="local")
        assert own.files.get("f") == text or stage.share == "none", own.error
        assert (await second.build("FROM kept\n", mode="local")).error
        hears_nothing(second, text)
