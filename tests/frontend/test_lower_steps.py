"""RUN, COPY, ADD and WORKDIR as ops; names of steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import (
    CacheSharing,
    Copy,
    ExecOp,
    FileOp,
    MergeOp,
    Mkdir,
    Mkfile,
    Mount,
    MountType,
    Owner,
    ScratchSource,
    SecurityMode,
    StepSettings,
    walk,
)
from pybuild.model.resources import Resources
from tests.frontend.lowering import PATH, build, env_of, execs, files, image, named, texts

ROOT = Mount(target="/", input=0, output=True)


def run(text: str, before: str = "", **options: Any) -> ExecOp:
    return execs(build(f"FROM a\n{before}\nRUN {text}\n", **options))[-1]


def copies(text: str, before: str = "FROM a\n") -> list[Copy]:
    op = build(f"{before}{text}\n").result.op
    assert isinstance(op, FileOp)
    return [action for action in op.actions if isinstance(action, Copy)]


# --- RUN ------------------------------------------------------------------------------------------


def test_run_has_all_that_counts() -> None:
    steps = StepSettings(
        add_hosts=(("h", "1.2.3.4"),),
        ulimits=(("nofile", 1, 2),),
        shm_size_bytes=5,
        resources=Resources(cpu_shares=2),
    )
    op = run(
        'echo "$A"',
        'ENV E=1\nARG A=2\nUSER u\nWORKDIR /w\nSHELL ["/bin/bash", "-c"]',
        steps=steps,
        build_args={"BUILDKIT_SANDBOX_HOSTNAME": "box"},
    )
    assert op == ExecOp(
        args=("/bin/bash", "-c", 'echo "$A"'),
        env=(PATH, "E=1", "A=2"),
        cwd="/w",
        user="u",
        mounts=(ROOT,),
        platform=op.platform,
        settings=replace(steps, hostname="box"),
    )


def test_exec_form_is_left_alone() -> None:
    assert run('["echo", "$A", "b c"]').args == ("echo", "$A", "b c")


def test_environment_is_ordered_by_last_assignment() -> None:
    op = run("x", "ENV A=1 B=2\nARG C=3\nENV A=4", images={"a": image(Env=["PATH=/p", "Z=9"])})
    assert op.env == ("PATH=/p", "Z=9", "B=2", "C=3", "A=4")


def test_env_of_the_base_stage_comes_back_in_its_child() -> None:
    op = execs(build("FROM a AS one\nENV V=x\nARG V=y\nARG W=w\nFROM one\nRUN id\n"))[0]
    assert op.env == ("W=w", PATH, "V=x")


def test_security_modes() -> None:  # RUN-6
    assert run("--security=insecure x").security is SecurityMode.INSECURE
    assert run("--security=sandbox x").security is SecurityMode.SANDBOX
    with pytest.raises(UserError, match='security "x" is not valid'):
        run("--security=x y")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--network=lan", 'invalid network mode "lan"'),
    ],
)
def test_run_flags_that_cannot_be(flag: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(f"FROM a\n\nRUN {flag} x\n")
    assert caught.value.spans[0].first_line == 3


# --- here-documents of RUN ------------------------------------------------------------------------


def test_lone_heredoc_is_the_shells_argument() -> None:  # HD-8, E170, E172
    assert run("<<EOF\nfalse\necho $ok\nEOF").args == ("/bin/sh", "-c", "false\necho $ok\n")
    op = run("<<-'EOF'\n\t\tprint(1)\nEOF", 'SHELL ["python3", "-c"]')
    assert op.args == ("python3", "-c", "print(1)\n")


def test_lone_heredoc_with_interpreter_is_a_mounted_script() -> None:  # E171
    lowered = build("FROM a\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n")
    op = execs(lowered)[0]
    assert op.args == ("/bin/sh", "-c", "/dev/pipes/EOF")
    assert op.mounts == (ROOT, Mount(target="/dev/pipes", input=1, readonly=True))
    script = lowered.result.inputs[1]
    data = b"#!/usr/bin/env python3\nprint(1)\n"
    assert script.op == FileOp(actions=(Mkfile(path="/EOF", data=data, mode=0o755),))
    assert texts(lowered) == ["+ RUN /bin/sh -c /dev/pipes/EOF # buildkit"]
    assert named(lowered)[-1] == "[2/2] RUN <<EOF (#!/usr/bin/env python3...)"


def test_other_heredocs_are_handed_to_the_shell() -> None:  # HD-9, E173
    op = run("cat <<-A 3<<B > /x\n\ta\n\tA\nb\nB")
    assert op.args[-1] == "cat <<-A 3<<B > /x\n\ta\nA\nb\nB"
    assert run("python <<EOF\nx\nEOF").args[-1] == "python <<EOF\nx\nEOF"


def test_script_cannot_leave_its_directory() -> None:
    lowered = build('FROM a\nRUN <<"../../x"\n#!/bin/sh\n../../x\n')
    assert execs(lowered)[0].args == ("/bin/sh", "-c", "/dev/pipes/x")
    with pytest.raises(UserError, match=r'"\.\." cannot be the name of a script'):
        build("FROM a\nRUN <<..\n#!/bin/sh\n..\n")


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


# --- COPY and ADD ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "path", "wildcard"),
    [
        ("f", "/f", False),
        ("/f", "/f", False),
        ("../../x/", "/x", False),  # E128
        ("./a/../b", "/b", False),
        (".", "/", False),
        ("a*/b", "/a*/b", True),
        ("nop[e]", "/nop[e]", True),
        (r"a\\*", r"/a\*", False),
    ],
)
def test_sources(sources: str, path: str, wildcard: bool) -> None:
    assert copies(f"COPY {sources} /d") == [
        Copy(input=1, source=path, dest="/d", wildcard=wildcard, allow_empty=wildcard)
    ]


@pytest.mark.parametrize(
    ("written", "dest"),
    [
        ("/d", "/d"),
        ("/d/", "/d/"),
        ("/d/.", "/d/"),
        (".", "/w/"),
        ("$EMPTY", "/w/"),
        ("./", "/w/"),
        ("x", "/w/x"),
        ("../x/", "/x/"),
        ("/a/../../b", "/b"),
        ("/", "/"),
    ],
)
def test_destinations(written: str, dest: str) -> None:  # CP-10, CP-11
    before = "FROM a\nARG EMPTY=\nWORKDIR /w\n"
    assert copies(f"COPY f {written}", before)[0].dest == dest


def test_variables_are_not_split() -> None:  # E80
    (copy,) = copies("COPY $x /d", 'FROM a\nENV x="a  b"\n')
    assert copy.source == "/a  b"


def test_owners() -> None:  # CP-21
    for text, owner in (
        ("1000", Owner(user="1000")),
        ("007:root", Owner(user="7", group="0")),
        ("me:us", Owner(user="me", group="us")),
        ("root", Owner(user="0")),
        (":5", Owner(user="0", group="5")),
    ):
        assert copies(f"COPY --chown={text} f /")[0].owner == owner
    assert copies("COPY f /")[0].owner is None


@pytest.mark.parametrize("text", ["FROM scratch\nCOPY", "FROM a\nCOPY --link"])
def test_named_owner_needs_a_tree_to_look_it_up_in(text: str) -> None:  # E135
    with pytest.raises(UserError, match="invalid user index: -1"):
        build(f"{text} --chown=nobody f /\n")
    with pytest.raises(UserError, match="invalid user index: -1"):
        build(f"{text} --chown=1:nogroup f /\n")
    assert build(f"{text} --chown=root f /\n")


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0755", 0o755), ("7777", 0o7777), ("go-w,u+x", "go-w,u+x"), ("+x", "+x"), ("g=u", "g=u")],
)
def test_modes(text: str, mode: object) -> None:  # E136, E137
    assert copies(f"COPY --chmod={text} f /")[0].mode == mode


@pytest.mark.parametrize("text", ["64a", "888", "17777", "u", "x=r", "u+q", "u=rw,", "٧"])
def test_bad_modes(text: str) -> None:
    with pytest.raises(UserError, match=r"invalid chmod parameter: '.*'\. it should be octal"):
        build(f"FROM a\nCOPY --chmod={text} f /\n")


def test_link_is_a_layer_of_its_own() -> None:  # CP-31
    lowered = build("FROM a\nCOPY --link f /d/\nRUN x\n")
    merge = lowered.result.inputs[0]
    assert isinstance(merge.op, MergeOp)
    base, layer = merge.inputs
    assert isinstance(layer.inputs[0].op, ScratchSource)
    assert lowered.history[0].vertex is layer
    assert base.meta.name.startswith("[1/3] FROM")
    assert (layer.meta.name, merge.meta.name) == (
        "[2/3] COPY --link f /d/",
        "[2/3] LINK COPY --link f /d/",
    )
    assert texts(lowered)[0] == "+ COPY f /d/ # buildkit"


def test_linked_layer_does_not_know_its_base() -> None:  # KEY-16
    one = build("FROM a\nCOPY --link f /\n").history[0].vertex
    two = build("FROM b\nRUN x\nCOPY --link f /\n").history[1].vertex
    assert one == two


def test_link_with_chmod_is_a_plain_copy() -> None:  # E138
    lowered = build("FROM a\nCOPY --link --chmod=644 f /\n")
    assert lowered.result == build("FROM a\nCOPY --chmod=644 f /\n").result


def test_link_onto_scratch_needs_no_merge() -> None:
    assert build("FROM scratch\nCOPY --link f /\n").result == (
        build("FROM scratch\nCOPY f /\n").result
    )


def test_copy_from_stage_image_and_index() -> None:  # CP-30
    lowered = build(
        "FROM a AS One\nRUN x\nFROM b\nCOPY --from=ONE /1 /\nCOPY --from=0 /2 /\n"
        "COPY --from=busybox:1 /3 /\n"
    )
    first = next(v for v in walk(lowered.result) if "/1 /" in v.meta.name)
    second = next(v for v in walk(lowered.result) if "/2 /" in v.meta.name)
    assert first.inputs[1] is second.inputs[1]
    assert isinstance(first.inputs[1].op, ExecOp)
    name = lowered.result.inputs[1].meta.name
    assert name.startswith("FROM docker.io/library/busybox:1@sha256:")
    assert not lowered.contexts


def test_excludes_are_not_expanded() -> None:  # CP-33, E141
    (copy,) = copies("COPY --exclude=*.md --exclude=!$keep . /d", "FROM a\nENV keep=x\n")
    assert copy.exclude == ("*.md", "!$keep")


@pytest.mark.parametrize(
    ("source", "path", "pivot"),
    [
        ("a/b/c.txt", "/a/b/c.txt", 0),
        ("./a/./b/c", "/a/b/c", 1),  # E140
        ("a/**/x.txt", "/a/**/x.txt", 0),
        ("/x/y/./z/*", "/x/y/z/*", 2),
    ],
)
def test_parents(source: str, path: str, pivot: int) -> None:  # CP-32
    (copy,) = copies(f"COPY --parents {source} /d/")
    assert (copy.source, copy.parents_pivot) == (path, pivot)


def test_add_unpacks_unless_told_otherwise() -> None:  # ADD-1, E144
    assert copies("ADD a.tar /d")[0].unpack
    assert not copies("ADD --unpack=false a.tar /d")[0].unpack
    assert not copies("COPY a.tar /d")[0].unpack


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COPY https://x/y /", "source can't be a URL for COPY"),
        ("COPY https://x/y.git /", "source can't be a git ref for COPY"),
        ("ADD --checksum=sha256:0 https://x/y /", 'invalid checksum "sha256:0"'),
        ("ADD https://x/y.git?tag=a&branch=b /", "branch conflicts with tag"),
        (
            "ADD --keep-git-dir=true https://x/y.git?keep-git-dir=false /",
            "inconsistent keep-git-dir configuration",
        ),
        ("ADD --checksum=sha256:0 f /", "checksum requires HTTP(S) or Git sources"),  # E148
        ("ADD --checksum=sha256:0 f g /", "checksum can't be specified for multiple sources"),
    ],
)
def test_sources_that_cannot_be(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(f"FROM a\n{line}\n")
    assert caught.value.message.startswith(message)
    assert caught.value.spans[0].first_line == 2


def test_github_without_scheme_is_a_local_path() -> None:  # ADD-10
    assert copies("ADD github.com/a/b /d")[0].source == "/github.com/a/b"


def inline(text: str, before: str = "FROM a\n") -> dict[str, bytes]:
    op = files(build(before + text))[0]
    return {action.path: action.data for action in op.actions if isinstance(action, Mkfile)}


def test_copy_heredocs() -> None:  # E153, E154, E155
    body = 'a $V \\$V "q"\n'
    before = "FROM a\nARG V=1\n"
    assert inline(f"COPY <<EOF /x\n{body}EOF\n", before) == {"/EOF": b'a 1 $V "q"\n'}
    assert inline(f"COPY <<'EOF' /x\n{body}EOF\n", before) == {"/EOF": body.encode()}
    assert inline("COPY <<a <<-b /d/\n1\na\n\t2\nb\n") == {"/a": b"1\n", "/b": b"2\n"}


def test_copy_heredoc_is_copied_like_any_file() -> None:  # HD-7
    lowered = build("FROM a\nCOPY --chmod=u+x --chown=3 f <<EOF /x\nb\nEOF\n")
    assert lowered.result.op == FileOp(
        actions=(
            Copy(input=1, source="/f", dest="/x", mode="u+x", owner=Owner(user="3")),
            Copy(input=2, source="/EOF", dest="/x", mode="u+x", owner=Owner(user="3")),
        )
    )
    assert lowered.result.inputs[2].meta.name == "[internal] preparing inline document"


def test_workdir_belongs_to_the_user() -> None:  # E185
    assert files(build("FROM a\nUSER 1000\nWORKDIR /w\n"))[0] == FileOp(
        actions=(Mkdir(path="/w", owner=Owner(user="1000")),)
    )


# --- names ----------------------------------------------------------------------------------------


def test_names_of_a_file_with_one_stage() -> None:  # UI-1
    lowered = build("FROM a\nENV V=1 Q='x'\ncopy a$V $NO/b\nRUN echo $V '$Q' $NO\nWORKDIR /$V\n")
    assert [n for n in named(lowered) if "FROM" not in n] == [
        "[internal] load build context",
        "[2/4] COPY a1 /b",
        "[3/4] RUN echo 1 '$Q' $NO",
        "[4/4] WORKDIR /1",
    ]


def test_names_of_several_stages() -> None:
    lowered = build("FROM a AS x\nRUN 1\nFROM scratch\nCOPY --from=x / /\n")
    assert [n for n in named(lowered) if n and "FROM" not in n] == [
        "[x 2/2] RUN 1",
        "[stage-1 1/1] COPY --from=x / /",
    ]


def test_counts_are_aligned() -> None:
    lowered = build("FROM a\n" + "RUN x\n" * 10)
    assert named(lowered)[1] == "[ 2/11] RUN x"


def test_names_with_platforms() -> None:  # UI-3
    text = (
        "FROM --platform=$BUILDPLATFORM a AS build\nRUN 1\nARG TARGETARCH\nRUN 2\n"
        "FROM b\nCOPY --from=build / /\n"
    )
    from pybuild.model.platform import Platform

    lowered = build(text, target_platform=Platform.parse("linux/arm64"), multi_platform=True)
    assert [n for n in named(lowered) if "FROM" not in n] == [
        "[linux/amd64 build 2/3] RUN 1",
        "[linux/amd64->arm64 build 3/3] RUN 2",
        "[linux/arm64 stage-1 2/2] COPY --from=build / /",
    ]


# --- what counts ----------------------------------------------------------------------------------

BASE = "FROM a\nARG A=1\nENV E=1\nWORKDIR /w\nCOPY x y\nRUN make\n"


@pytest.mark.parametrize(
    "text",
    [
        "# comment\nFROM a\n# more\n" + BASE.removeprefix("FROM a\n"),
        BASE.replace("FROM", "from").replace("RUN", "run").replace("COPY", "Copy"),
        BASE.replace("COPY x y", "COPY x \\\n  y").replace("RUN make", "RUN \\\nmake"),
        BASE.replace("COPY x y", "LABEL a=b\nCOPY x y"),
        BASE.replace(
            "RUN make",
            'CMD x\nENTRYPOINT ["y"]\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nHEALTHCHECK NONE\n'
            "MAINTAINER me\nONBUILD RUN z\nLABEL c=d\nRUN make",
        ),
        BASE.replace("COPY x y", "COPY $X y")
        .replace("RUN", "RUN")
        .replace("FROM a", "FROM a")
        .replace("$X", "./x"),
        "FROM a AS named\n" + BASE.removeprefix("FROM a\n"),
        "FROM z AS unused\nRUN never\n" + BASE,
    ],
)
def test_what_does_not_count(text: str) -> None:  # KEY-8
    assert build(text).result.digest == build(BASE).result.digest


@pytest.mark.parametrize(
    "change",
    [
        ("FROM a", "FROM b"),
        ("A=1", "A=2"),
        ("E=1", "E=2"),
        ("/w", "/v"),
        ("x y", "x z"),
        ("make", "make all"),
        ("RUN make", "USER u\nRUN make"),
        ("RUN make", 'SHELL ["sh", "-c"]\nRUN make'),
        ("RUN make", "RUN --network=none make"),
    ],
)
def test_what_counts(change: tuple[str, str]) -> None:  # KEY-1, KEY-8, KEY-10
    assert build(BASE.replace(*change)).result.digest != build(BASE).result.digest


def test_arg_does_not_change_copies() -> None:  # KEY-10
    one = build(BASE.replace("A=1", "A=2")).result.inputs[0]
    assert one == build(BASE).result.inputs[0]


_CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.frontend.lowering import build
from tests.frontend.test_lower_config import EVERYTHING
lowered = build(EVERYTHING, named_contexts={"b": ".", "a": "."}, labels={"x": "1", "y": "2"},
                build_args={"C": "c", "B": "b", "HTTP_PROXY": "p"})
digests = [str(item.vertex.digest) for item in lowered.history if item.vertex]
print(json.dumps([digests, lowered.config, [w.message for w in lowered.warnings]]))
"""


@pytest.mark.slow
def test_definitions_are_the_same_in_every_process() -> None:
    here = str(Path(__file__).parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _CHILD, here],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    (output,) = outputs
    assert len(json.loads(output)[0]) == 8


@pytest.mark.parametrize("text", ["COPY [a /", "COPY --exclude=[a . /", "COPY --parents **/[a /"])
def test_malformed_patterns_name_their_line(text: str) -> None:  # IGN-7
    with pytest.raises(UserError, match="syntax error in pattern") as caught:
        build(f"FROM a\n{text}\n")
    assert caught.value.spans[0].first_line == 2


@pytest.mark.slow
def test_long_stages_are_lowered_in_linear_time() -> None:
    lowered = build("FROM a\n" + "RUN x\n" * 5_000)
    assert len(lowered.history) == 5_000
    assert len({v.digest for v in walk(lowered.result)}) == 5_001


def test_titles_show_no_variable_that_is_called_or_looks_like_a_secret() -> None:
    """They are logged, kept beside the results and travel with caches [UI-1]."""
    token = "ghp_" + "a" * 36
    lowered = build(
        "FROM scratch\nARG API_TOKEN=hunter2\n"
        f"ENV PLAIN=seen OTHER={token}\n"
        "COPY f /$API_TOKEN/$PLAIN\n"
        "RUN <<EOF\ncurl $API_TOKEN $OTHER $PLAIN\nEOF\n"
    )
    names = " ".join(v.meta.name for v in walk(lowered.result))
    assert "COPY f /****/seen" in names and "RUN <<EOF (curl **** [redacted " in names
    assert "hunter2" not in names and token not in names


def test_a_secret_is_not_shown_by_way_of_another_variable_either() -> None:
    lowered = build(
        "FROM scratch\nARG API_TOKEN=hunter2secret\nENV OTHER=$API_TOKEN/bin\nCOPY f $OTHER\n"
    )
    meta = lowered.result.meta
    assert meta.name.endswith("COPY f ****/bin")
    assert meta.secrets == ("hunter2secret",)
    assert "hunter2secret" not in repr(meta)
