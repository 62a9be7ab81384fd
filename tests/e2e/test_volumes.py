"""``build -v HOST:PATH``: directories of the machine in every RUN [issue 14, habits]."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pybuild as library
from pybuild.model.errors import UsageError
from tests.e2e.test_rootless import MAIN, base_tar
from tests.executor.plain_user import UID, PlainUser, need_packages, need_sub_ids, plain_user
from tests.harness import Done, Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

READS = "FROM base\nRUN cat /in/f > /got; ls -a /in >> /got\nRUN echo also >> /got\n"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return write(tmp_path / "volume", f="one\n")


def build(pybuild: Pybuild, context: Path, *options: str | Path, code: int = 0) -> Done:
    return pybuild("build", "--progress=plain", "-t", "x", *options, context, code=code)


@pytest.mark.usefixtures("base")
def test_the_content_counts_and_the_place_does_not(
    pybuild: Pybuild, tmp_path: Path, volume: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=READS)
    build(pybuild, context, "-v", f"{volume}:/in")
    assert pybuild("run", "x", "cat", "/got").out == "one\n.\n..\nf\nalso\n"
    # Neither by the memo of that build nor by the engine does a step run again.
    build(pybuild, context, "-v", f"{volume}:/in", "--fail-on-miss")
    moved = write(tmp_path / "moved", f="one\n")
    build(pybuild, context, "--volume", f"{moved}:/in:ro,Z", "--fail-on-miss")
    (volume / "f").write_text("two\n")
    refused = build(pybuild, context, "-v", f"{volume}:/in", "--fail-on-miss", code=1)
    assert '/f was "' in refused.err or "content of /f" in refused.err, refused.err
    build(pybuild, context, "-v", f"{volume}:/in")
    assert pybuild("run", "x", "cat", "/got").out == "two\n.\n..\nf\nalso\n"
    # Without it, it is another step.
    assert "can't open" in build(pybuild, context, "-q", code=1).err


@pytest.mark.usefixtures("base")
def test_no_trace_is_in_the_layer(pybuild: Pybuild, tmp_path: Path, volume: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN cat /new/in/f > /got\n")
    out = tmp_path / "out.tar"
    for mode in ("ro", "O", "rw", "ro,nokey", "O,nokey"):
        build(pybuild, context, "-v", f"{volume}:/new/in:{mode}", "-o", f"type=tar,dest={out}")
        with tarfile.open(out) as tar:
            names = tar.getnames()
        assert "got" in names and not [name for name in names if name.startswith("new")], mode
    assert sorted(os.listdir(volume)) == ["f"]


@pytest.mark.usefixtures("base")
def test_writes_are_refused_lost_or_kept_as_the_mode_says(
    pybuild: Pybuild, tmp_path: Path, volume: Path
) -> None:
    text = "FROM base\nRUN (echo w > /in/f && cat /in/f || echo no) 2>/dev/null > /got\n"
    context = write(tmp_path / "ctx", Dockerfile=text)
    seen: dict[str, tuple[str, str]] = {}
    for mode in ("ro", "O", "ro,nokey", "O,nokey", "rw"):
        build(pybuild, context, "-v", f"{volume}:/in:{mode}")
        seen[mode] = pybuild("run", "x", "cat", "/got").out, (volume / "f").read_text()
    assert seen == {
        "ro": ("no\n", "one\n"),
        "O": ("w\n", "one\n"),
        "ro,nokey": ("no\n", "one\n"),
        "O,nokey": ("w\n", "one\n"),
        "rw": ("w\n", "w\n"),
    }


@pytest.mark.usefixtures("base")
def test_with_nokey_only_path_and_mode_count(
    pybuild: Pybuild, tmp_path: Path, volume: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=READS)
    build(pybuild, context, "-v", f"{volume}:/in:ro,nokey")
    (volume / "f").write_text("two\n")
    other = write(tmp_path / "other")
    for place in (volume, other):
        build(pybuild, context, "-v", f"{place}:/in,nokey", "--fail-on-miss")
    assert pybuild("run", "x", "cat", "/got").out.startswith("one\n")
    for changed in ("/in:O,nokey", "/else:ro,nokey"):
        build(pybuild, context, "-v", f"{volume}:{changed}", "--fail-on-miss", code=1)


@pytest.mark.usefixtures("base")
def test_a_link_of_the_image_leads_into_the_image(
    pybuild: Pybuild, tmp_path: Path, volume: Path
) -> None:
    links = "FROM base\nRUN ln -s /etc /link && ln -s /../../../etc/deep /away\n"
    pybuild("build", "-t", "links", write(tmp_path / "links", Dockerfile=links))
    text = "FROM links\nRUN cat /etc/in/f /etc/deep/f > /got; test -L /link\n"
    context = write(tmp_path / "ctx", Dockerfile=text)
    build(pybuild, context, "-v", f"{volume}:/link/in", "-v", f"{volume}:/away:O")
    assert pybuild("run", "x", "cat", "/got").out == "one\none\n"
    assert {"in", "deep"}.isdisjoint(pybuild("run", "x", "ls", "/etc").out.split())


@pytest.mark.usefixtures("base")
def test_a_mount_of_the_step_in_its_place_is_refused_with_its_line(
    pybuild: Pybuild, tmp_path: Path, volume: Path
) -> None:
    run = "RUN --mount=type=tmpfs,target=/in{} true\n"
    context = write(tmp_path / "ctx", Dockerfile="FROM base\n" + run.format(""))
    done = build(pybuild, context, "-v", f"{volume}:/in", code=1)
    assert "error: /in is a mount of this step, and a volume (-v) too" in done.err
    assert "2 | >>> RUN" in done.err
    write(context, Dockerfile="FROM base\n" + run.format("/sub"))
    done = build(pybuild, context, "-v", f"{volume}:/in:rw", code=1)
    assert "lies in the volume /in, which is writable" in done.err
    build(pybuild, context, "-v", f"{volume}:/in:O")
    assert os.listdir(volume) == ["f"]


@pytest.mark.usefixtures("base")
def test_the_store_is_no_volume(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile="FROM base\nRUN true\n")
    for place in (pybuild.store, pybuild.store / "blobs", tmp_path):
        done = build(pybuild, context, "-v", f"{place}:/in", code=1)
        assert "changes while steps run: " in done.err
        assert "keep the store elsewhere with --root" in done.err


@pytest.mark.usefixtures("base")
def test_the_python_api_takes_volumes(pybuild: Pybuild, tmp_path: Path, volume: Path) -> None:
    context = write(tmp_path / "ctx", Dockerfile=READS)
    options = {"root": pybuild.store, "volumes": [f"{volume}:/in"], "tags": ["x"]}
    assert not library.build(context, **options).is_fully_cached  # type: ignore[arg-type]
    assert library.build(context, **options).is_fully_cached  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no such directory"):
        library.build(context, volumes=[f"{volume}/x:/in"], root=pybuild.store)


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with plain_user() as made:
        need_packages(made)
        yield made


STEPS = """\
FROM scratch
ADD base.tar /
RUN find /in -exec stat -c '%n %u %g %a %Y %F' {} + | sort > /seen; cat /in/deep/f > /got
RUN (echo x > /in/x) 2> /dev/null || :
"""


def on_rung(
    user: PlainUser,
    name: str,
    mode: str,
    *,
    root: bool = False,
    jailed: bool = False,
    sub_ids: bool = False,
) -> str:
    """Build with a volume that the user owns, and return the digest of the manifest."""
    here = user.place / name
    (here / "home").mkdir(parents=True)
    context = write(here / "ctx", Dockerfile=STEPS)
    write(here / "volume/deep", f="deep\n")
    (context / "base.tar").write_bytes(base_tar())
    for path in (here, *here.rglob("*")):
        os.utime(path, (1000, 1000))
        if not root:
            os.chown(path, UID, UID)
    attrs = f"type=oci,tar=false,dest={here}/oci,rewrite-timestamp=true"
    words = ["build", "-o", attrs, "--build-arg", "SOURCE_DATE_EPOCH=1700000000"]
    words += ["-v", f"{here}/volume:/in:{mode}", str(context)]
    user.python(MAIN, str(here / "home"), *words, root=root, jailed=jailed, sub_ids=sub_ids)
    (entry,) = json.loads((here / "oci/index.json").read_text())["manifests"]
    digest: str = entry["digest"]
    return digest


@pytest.mark.root
@pytest.mark.parametrize("mode", ["ro", "O"])
def test_a_volume_is_the_same_on_every_rung(user: PlainUser, mode: str) -> None:
    need_sub_ids()
    rungs: dict[str, dict[str, bool]] = {
        "root": {"root": True},
        "range": {"sub_ids": True},
        "one": {},
        "jailed": {"root": True, "jailed": True},
    }
    digests = {rung: on_rung(user, f"{rung}-{mode}", mode, **how) for rung, how in rungs.items()}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.root
def test_where_nothing_can_be_mounted_a_writable_one_is_refused(user: PlainUser) -> None:
    for mode in ("ro,nokey", "O,nokey"):
        on_rung(user, f"jailed-{mode[0]}-nokey", mode, root=True, jailed=True)
    with pytest.raises(AssertionError, match="would not take writes back to it") as caught:
        on_rung(user, "jailed-rw", "rw", root=True, jailed=True)
    assert "Traceback" not in str(caught.value)
