"""Attacks by the names of images, and on private ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from tests.buildkit.llbs import Builder
from tests.daemon.libraries import CONFIG, LAYER, MANIFEST, Library, digest_of
from tests.security.attacks import (
    ATTACKS,
    LOGIN,
    Attack,
    attack,
    hears_nothing,
    parked,
    poisons,
    private_image,
    tarred,
)
from tests.security.tenants import Stage, Tenant, marker

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
    """Images that root built on the same store are nobody's base but root's."""
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
    await parked(b, questions)
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
