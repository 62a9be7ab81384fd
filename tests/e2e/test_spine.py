"""The whole path: a multi-stage Dockerfile to an image that is cached, exported and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, write
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = """\
FROM base AS build
ARG VERSION=1
WORKDIR /src
COPY a.txt b.txt ./
RUN cat a.txt b.txt > out && echo "$VERSION" >> out
FROM base AS other
RUN echo other > /other
FROM base
COPY --from=build /src/out /out
COPY --from=other /other /
LABEL made=here
CMD ["cat", "/out"]
"""


def steps(text: str) -> dict[str, str]:
    """Return the last words of plain progress about each step."""
    names: dict[str, str] = {}
    last: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        if number.startswith("#") and rest:
            names.setdefault(number, rest)
            last[number] = rest.split()[0]
    return {names[number]: word for number, word in last.items() if names[number].startswith("[")}


def test_a_build_runs_then_is_cached_then_reruns_only_what_changed(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """Shows 3."""
    context = write(
        tmp_path / "ctx",
        **{"Dockerfile": DOCKERFILE, "a.txt": "a\n", "b.txt": "b\n", "c.txt": "c\n"},
    )
    first = steps(pybuild("build", "-t", "app", context).err)
    assert set(first.values()) >= {"DONE"}
    assert pybuild("run", "app").out == "a\nb\n1\n"

    # UI-2: what people did not write is marked as internal.
    assert "[internal] load build definition" in first
    memo = pybuild("build", "-t", "app", context)
    assert {w for n, w in steps(memo.err).items() if not n.startswith("[internal]")} == {"CACHED"}

    (context / "c.txt").write_text("nobody reads this\n")
    again = pybuild("build", "-t", "app", context)
    assert {w for n, w in steps(again.err).items() if not n.startswith("[internal]")} == {"CACHED"}

    (context / "b.txt").write_text("B\n")
    third = steps(pybuild("build", "-t", "app", context).err)
    assert third["[build 3/4] COPY a.txt b.txt ./"] == "DONE"
    assert third["[other 2/2] RUN echo other > /other"] == "CACHED"
    assert pybuild("run", "app").out == "a\nB\n1\n"
    assert pybuild("inspect", "--check", "app").code == 0
    assert leftovers(pybuild.store) == []


def test_an_argument_reruns_what_comes_after_it(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", **{"Dockerfile": DOCKERFILE, "a.txt": "a\n", "b.txt": "b\n"})
    pybuild("build", "-t", "app", context)
    second = steps(pybuild("build", "-t", "app2", "--build-arg", "VERSION=2", context).err)
    assert second["[build 3/4] COPY a.txt b.txt ./"] == "CACHED"
    assert pybuild("run", "app2").out == "a\nb\n2\n"
    assert pybuild("run", "app").out == "a\nb\n1\n"


def test_equal_builds_in_two_stores_give_equal_configs_but_for_times(
    tmp_path: Path, pybuild: Pybuild, base: str
) -> None:
    """History and config to the letter of CFG ids."""
    context = write(tmp_path / "ctx", **{"Dockerfile": DOCKERFILE, "a.txt": "a\n", "b.txt": "b\n"})
    pybuild("build", "-t", "app", context)
    config = json.loads(pybuild("inspect", "--oci", "app").out)["config"]
    texts = [entry["created_by"] for entry in config["history"]]
    assert texts[-4:] == [
        "COPY /src/out /out # buildkit",
        "COPY /other / # buildkit",
        "LABEL made=here",
        'CMD ["cat" "/out"]',
    ]
    layers = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(layers) == len(config["rootfs"]["diff_ids"])
    assert config["config"]["Labels"] == {"made": "here"}
    assert "BASE=yes" in config["config"]["Env"]


def test_outputs_local_tar_oci_and_docker(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """OUT-3..6."""
    context = write(
        tmp_path / "ctx",
        Dockerfile="FROM base AS b\nRUN echo hi > /hi\nFROM scratch\nCOPY --from=b /hi /\n",
    )
    out = tmp_path / "out"
    pybuild("build", "-o", out, context)
    assert (out / "hi").read_text() == "hi\n"
    pybuild("build", "-o", f"type=tar,dest={tmp_path}/t.tar", context)
    with tarfile.open(tmp_path / "t.tar") as tar:
        assert "hi" in [member.name.strip("./") for member in tar]
    pybuild("build", "-t", "x/y:1", "-o", f"type=oci,dest={tmp_path}/oci.tar", context)
    with tarfile.open(tmp_path / "oci.tar") as tar:
        assert {"index.json", "oci-layout"} <= set(tar.getnames())
    pybuild("build", "-t", "x/y:1", "-o", f"type=docker,dest={tmp_path}/docker.tar", context)
    with tarfile.open(tmp_path / "docker.tar") as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        assert json.load(member)[0]["RepoTags"] == ["x/y:1"]
    done = pybuild("build", "-o", "type=cacheonly", context)
    assert "exporting" not in done.err


def test_a_peer_reads_our_archive(pybuild: Pybuild, base: str, tmp_path: Path) -> None:

    need("skopeo")
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN echo hi > /hi\n")
    pybuild("build", "-t", "x/y:1", "-o", f"type=oci,dest={tmp_path}/oci.tar", context)
    done = subprocess.run(
        ["skopeo", "inspect", f"oci-archive:{tmp_path}/oci.tar"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["Architecture"]


@pytest.mark.parametrize(
    ("dockerfile", "code", "message"),
    [
        ("FROM base\nRUN echo oops; exit 3\n", 1, "exit code: 3: echo oops; exit 3"),
        ("FROM base\nRNU true\n", 1, "unknown instruction: RNU (did you mean RUN?)"),
        ("FROM base\nCOPY --form=x a b\n", 1, "unknown flag: --form (did you mean from?)"),
        ("FROM base\nCOPY nope /\n", 1, '"nope" is not in the context'),
        (
            "FROM base AS a\nCOPY --from=b / /\nFROM a AS b\n",
            1,
            "circular dependency detected on stage: a",
        ),
        ("", 1, "the Dockerfile cannot be empty"),
    ],
)
def test_mistakes_end_in_one_clear_error(
    pybuild: Pybuild, base: str, tmp_path: Path, dockerfile: str, code: int, message: str
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=dockerfile)
    done = pybuild("build", context, code=code)
    assert message in done.err
    assert done.err.count("\nerror: ") + done.err.startswith("error: ") == 1
    assert leftovers(pybuild.store) == []
    pybuild("build", write(tmp_path / "ok", Dockerfile="FROM base\nRUN true\n"))


def test_a_failed_run_shows_its_line_and_its_last_words(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(
        tmp_path / "ctx", Dockerfile="FROM base\nRUN echo first; echo last words; exit 7\n"
    )
    done = pybuild("build", context, code=1)
    assert ">>> RUN echo first; echo last words; exit 7" in done.err
    tail = done.err[done.err.rindex("------\n", 0, done.err.rindex("error: ")) :]
    assert "last words" in done.err.split("------")[1]
    assert "exit code: 7" in tail


def test_no_dockerfile_no_context_and_unreachable_registry(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (
        "failed to read dockerfile: open Dockerfile: no such file"
        in pybuild("build", empty, code=1).err
    )
    assert "no such directory" in pybuild("build", tmp_path / "none", code=1).err
    context = write(tmp_path / "ctx", Dockerfile="FROM 127.0.0.1:9/x\n")
    assert "127.0.0.1:9" in pybuild("build", context, code=3).err


@pytest.mark.parametrize(("source", "is_dir"), [("a", False), ("a", True), ("a/inside", True)])
def test_what_cannot_be_read_in_a_context_is_named(
    pybuild: Pybuild, base: str, tmp_path: Path, source: str, is_dir: bool
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=f"FROM base\nCOPY {source} /\n", b="x")
    (context / "a").mkdir() if is_dir else (context / "a").write_text("x")
    (context / "a").chmod(0)
    said = blind(pybuild, "build", context)
    assert re.search(r"error: cannot read .*\ba\b.*: permission denied\nhint: exclude it in ", said)
    assert "hint: exclude it in .dockerignore, or make it readable\nDockerfile:2\n" in said
    (context / "Dockerfile").write_text("FROM base\nCOPY b /\n")
    pybuild("build", context)  # nobody asks for it now


def blind(pybuild: Pybuild, *words: str | Path) -> str:
    """Fail as somebody who cannot read everything, root among them, and return the errors."""
    command = pybuild.command(*words)
    if os.geteuid() == 0:
        need("setpriv")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(
        command, env=pybuild.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_images_are_listed_tagged_and_removed(pybuild: Pybuild, base: str) -> None:
    assert "base" in pybuild("images").out
    pybuild("tag", "base", "other:1")
    assert pybuild("images", "-q", "other").out == pybuild("images", "-q", "base").out
    pybuild("rmi", "base")
    assert pybuild("images", "-q", "base").out == ""
    assert pybuild("run", "other:1", "true").code == 0
    assert "no such image" in pybuild("rmi", "base", code=1).err


def test_run_passes_status_environment_user_and_standard_streams(
    pybuild: Pybuild, base: str
) -> None:
    assert pybuild("run", base, "sh", "-c", "exit 5", code=5).code == 5
    done = pybuild(
        "run",
        "-e",
        "X=1",
        "-u",
        "app",
        "-w",
        "/tmp",
        base,
        "sh",
        "-c",
        "echo $X $(id -u) $PWD; echo e >&2",
    )
    assert done.out == "1 1000 /tmp\n"
    assert "e\n" in done.err
    assert pybuild("run", "-i", base, "cat", stdin=b"from outside").out == "from outside"
    assert pybuild("run", "--rm", base, "cat", stdin=b"from outside").out == ""
    assert len(pybuild("ps", "-aq").out.split()) == 3  # the one with --rm is gone
    assert pybuild("run", base, "no-such-program", code=127).code == 127


def test_prune_frees_what_no_image_needs_and_nothing_else(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN echo hi > /hi\n")
    pybuild("build", "-t", "app", context)
    pybuild(
        "build",
        "-o",
        "type=cacheonly",
        write(tmp_path / "ctx2", Dockerfile="FROM base\nRUN echo x > /x\n"),
    )
    assert "Total:" in pybuild("du").out
    pybuild("prune", "--all", "--force")
    assert pybuild("run", "app", "cat", "/hi").out == "hi\n"
    assert pybuild("inspect", "--check", "app").code == 0
    pybuild("build", "-t", "app", context)


def test_metadata_iidfile_and_quiet_name_the_same_image(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN echo hi > /hi\n")
    for _ in range(2):  # by the engine, then by the memo
        done = pybuild(
            "build",
            "-q",
            "-t",
            "app",
            "--iidfile",
            tmp_path / "iid",
            "--metadata-file",
            tmp_path / "meta",
            context,
        )
        meta = json.loads((tmp_path / "meta").read_text())
        assert (
            done.out.strip()
            == (tmp_path / "iid").read_text()
            == meta["containerimage.config.digest"]
        )
        (tmp_path / "iid").unlink()


def test_secrets_cache_mounts_and_binds(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """MNT-13, MNT-14, MNT-18: a secret is seen by its step and by nothing else."""
    (tmp_path / "token").write_text("s3cr3t-value")
    context = write(
        tmp_path / "ctx",
        **{
            "Dockerfile": "FROM base\n"
            'RUN --mount=type=secret,id=token test "$(busybox rev /run/secrets/token)" = eulav-t3rc3s\n'
            "RUN --mount=type=cache,target=/c echo one >> /c/log && cat /c/log > /seen\n"
            "RUN --mount=type=bind,source=a.txt,target=/a.txt cat /a.txt > /copied\n",
            "a.txt": "bound\n",
        },
    )
    done = pybuild("build", "-t", "app", "--secret", f"id=token,src={tmp_path}/token", context)
    assert "s3cr3t-value" not in done.err
    assert pybuild(
        "run", "app", "sh", "-c", "cat /seen /copied; ls -A /run /c 2>/dev/null || true"
    ).out.startswith("one\nbound\n")
    for path in pybuild.store.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"s3cr3t-value" not in path.read_bytes(), path


def test_an_image_that_cannot_be_had_marks_the_line_that_asks_for_it(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write(
        tmp_path / "ctx", Dockerfile="FROM scratch AS x\nFROM 127.0.0.1:9/y\nRUN true\n"
    )
    err = pybuild("build", context, code=3).err
    assert "error: 127.0.0.1:9/y:latest is not in the store, and 127.0.0.1:9 is out of" in err
    assert "   2 | >>> FROM 127.0.0.1:9/y" in err
