"""Mounts of RUN as they are lowered."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import (
    CacheSharing,
    Mount,
    MountType,
)
from tests.frontend.lowering import build, env_of, execs, named
from tests.frontend.runs import ROOT, run

# --- mounts ---------------------------------------------------------------------------------------


def mounts(flags: str, before: str = "") -> list[Mount]:
    return [mount for mount in run(f"{flags} x", before).mounts if mount.target != "/"]


def test_bind_of_the_context_is_the_default() -> None:  # MNT-4, E192
    lowered = build("FROM a\nWORKDIR /w\nRUN --mount=source=src x\n")
    assert execs(lowered)[0].mounts[1] == Mount(
        target="/w", input=1, selector="/src", readonly=True
    )
    assert lowered.contexts == {"context"}


def test_two_binds_of_one_source_share_an_input() -> None:
    lowered = build(
        "FROM b AS s\nFROM a\n"
        "RUN --mount=from=s,target=/z/y,source=../q --mount=from=s,target=/z,rw"
        " --mount=target=/c x\n"
    )
    assert len(lowered.result.inputs) == 3
    assert execs(lowered)[0].mounts == (
        ROOT,
        Mount(target="/c", input=2, readonly=True),
        Mount(target="/z", input=1),
        Mount(target="/z/y", input=1, selector="/q", readonly=True),
    )


def test_cache_mounts() -> None:  # MNT-6, MNT-7, MNT-15
    assert mounts("--mount=type=cache,target=/c/") == [
        Mount(target="/c", type=MountType.CACHE, cache_id="/c")
    ]
    flags = "--mount=type=cache,target=c,id=i-$T,sharing=Locked,uid=5,mode=0700"
    assert mounts(flags, "ARG T=x\nWORKDIR /w") == [
        Mount(
            target="/w/c",
            type=MountType.CACHE,
            cache_id="i-x",
            sharing=CacheSharing.LOCKED,
            uid=5,
            mode=0o700,
        )
    ]
    (seeded,) = mounts("--mount=type=cache,target=/c,from=b,source=/seed,uid=5")
    assert (seeded.input, seeded.selector, seeded.uid, seeded.mode) == (1, "/seed", 0, None)


def test_cache_namespace() -> None:  # MNT-14
    op = run("--mount=type=cache,target=/c x", build_args={"BUILDKIT_CACHE_MOUNT_NS": "ns"})
    assert op.mounts[1].cache_id == "ns//c"


def test_tmpfs() -> None:
    assert mounts("--mount=type=tmpfs,target=/t,size=1.5k") == [
        Mount(target="/t", type=MountType.TMPFS, tmpfs_size_bytes=1536)
    ]


def test_secrets() -> None:  # MNT-11, MNT-18, MNT-19
    secret = {"type": MountType.SECRET, "readonly": True, "id": "s", "mode": 0o400}
    for flags, want in (
        ("id=s", {"target": "/run/secrets/s"}),
        ("source=s", {"target": "/run/secrets/s"}),
        ("target=/d/s", {"target": "/d/s"}),
        ("id=s,env=TOK", {"target": "", "env": "TOK"}),
        ("id=s,env=", {"target": "", "env": "s"}),
        ("id=s,env=TOK,target=/t", {"target": "/t", "env": "TOK"}),
        ("id=s,required,uid=3,mode=444", {"target": "/run/secrets/s", "required": True, "uid": 3}),
    ):
        root, *got = run(f"--mount=type=secret,{flags} x").mounts
        assert root == ROOT
        mode = {"mode": 0o444} if "mode" in flags else {}
        assert got == [Mount(**{**secret, **want, **mode})]  # type: ignore[arg-type]


def test_secret_values_are_masked_in_the_name() -> None:
    lowered = build("FROM a\nENV TOK=seen\nRUN --mount=type=secret,id=s,env=TOK curl $TOK $NO\n")
    assert named(lowered)[-1] == ("[2/2] RUN --mount=type=secret,id=s,env=TOK curl **** $NO")


def test_ssh_sockets_and_their_variable() -> None:  # MNT-20
    op = run("--mount=type=ssh --mount=type=ssh,id=x,target=/s,required x")
    ssh = {"type": MountType.SSH, "readonly": True, "mode": 0o600}
    assert op.mounts[1:] == (
        Mount(target="/run/buildkit/ssh_agent.0", id="default", **ssh),  # type: ignore[arg-type]
        Mount(target="/s", id="x", required=True, **ssh),  # type: ignore[arg-type]
    )
    assert env_of(op)["SSH_AUTH_SOCK"] == "/run/buildkit/ssh_agent.0"
    assert "SSH_AUTH_SOCK=/own" in run("--mount=type=ssh x", "ENV SSH_AUTH_SOCK=/own").env


def test_type_may_be_a_variable() -> None:  # E193
    assert mounts("--mount=type=$T,target=/x", "ARG T=tmpfs")[0].type is MountType.TMPFS


def test_options_may_be_quoted_as_csv() -> None:
    (mount,) = mounts(r"--mount=type=cache,target=/c,\"id=a,b\"")
    assert mount.cache_id == "a,b"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("type=tmp,target=/x", 'unsupported mount type "tmp" (did you mean tmpfs?)'),
        ("type=tmpf,target=/x", 'unsupported mount type "tmpf" (did you mean tmpfs?)'),
        ("size=1m,type=tmpfs,target=/x", "unexpected key 'size' for mount type 'bind'"),  # E191
        ("required,type=secret,id=s", "unexpected key 'required' for mount type 'bind'"),
        ("target=/", 'invalid mount target "/"'),
        ("typ=tmpfs", "unexpected key 'typ' in 'typ=tmpfs' (did you mean type?)"),
        ("x", "invalid field 'x' must be a key=value pair"),
        ("target=/x,", "invalid field '' must be a key=value pair"),
        ("target=/x,ro=maybe", "invalid value for ro: maybe"),
        ("type=tmpfs,target=/x,size=1x", "invalid value for size: 1x"),
        ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/x,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/x,uid=4294967296", "invalid value 4294967296 for uid"),
        ("target=/x,mode=1", 'mode not allowed for "bind" type mounts'),
        ("type=tmpfs,target=/x,gid=1", 'gid not allowed for "tmpfs" type mounts'),
        ("target=/x,sharing=locked", "invalid cache sharing set for bind mount"),
        (
            "type=cache,target=/x,sharing=lockd",
            'unsupported sharing value "lockd" (did you mean locked?)',
        ),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=locked", "secret mount should not define sharing"),
        ("type=ssh,source=/x", "ssh does not support source"),
        (r"\"target=/x", 'failed to parse csv mounts: quote is not closed: "target=/x'),
        (r"target=\"/x", 'failed to parse csv mounts: bare " in non-quoted field: target="/x'),
        (
            "from=$B,target=/x",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
    ],
)
def test_mounts_that_cannot_be(options: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(f"FROM a\nRUN --mount={options} x\n")
    # What needs no variables is found while parsing.
    assert caught.value.message.removeprefix("dockerfile parse error on line 2: ") == message
    assert caught.value.spans[0].first_line == 2


def test_mount_from_a_later_stage() -> None:  # MNT-24
    with pytest.raises(UserError) as caught:
        build("FROM a AS x\nRUN --mount=from=y,target=/y z\nFROM b AS y\nFROM x\n")
    assert caught.value.message == (
        'cannot mount from stage "y" to "/y", stage needs to be defined before current command'
    )


def test_number_as_mount_source_is_an_image() -> None:  # FROM-7
    asked: list[str] = []
    build("FROM a\nFROM b\nRUN --mount=from=0,target=/x y\n", asked=asked)
    assert asked == ["0 linux/amd64", "b linux/amd64"]
