"""Private outputs: what lands in archives and directories is what the image shows when it runs."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from tests.harness import Pybuild, write
from tests.image.images import assert_valid
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

# One of everything that file trees have, with what later steps do to earlier ones.
DOCKERFILE = """\
FROM base
RUN mkdir -p /d/sub && echo one > /d/one && echo two > /d/sub/two && ln -s ../one /d/sub/link \\
 && ln /d/sub/two /d/hard && chmod 640 /d/one && mkdir -m 1777 /d/sticky && busybox mkfifo /d/pipe \\
 && echo gone > /d/gone && mkdir /d/emptied && echo x > /d/emptied/x && chmod 700 /d/sub
COPY --chown=1000:7 --chmod=750 ["script", "/d/with space"]
RUN rm -r /d/gone /d/emptied && mkdir /d/emptied && echo new > /d/emptied/new
RUN touch -d @1600000000 /d/one && chown 12:34 /d/sticky && echo s > /d/set && chmod 4711 /d/set
LABEL kind=everything
CMD ["cat", "/d/one"]
"""
IN_RUN = """\
busybox find / -xdev -exec busybox stat -c '%f|%u|%g|%Y|%n' {} +
echo ---
busybox find / -xdev -type f -exec busybox sha256sum {} +
echo ---
busybox find / -xdev -type l -exec busybox readlink {} \\; -print
"""
# What the sandbox itself puts over a tree.
FOREIGN = ("dev", "proc", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname")

Seen = dict[str, tuple[object, ...]]


@pytest.fixture
def app(pybuild: Pybuild, base: str, tmp_path: Path) -> Path:
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE, script="#!/bin/sh\n")
    pybuild("build", "-t", "app", context)
    return context


def is_foreign(path: str) -> bool:
    return path in {"", "."} or path in FOREIGN or path.startswith(("dev/", "proc/", "sys/"))


def seen_by_run(pybuild: Pybuild, image: str) -> Seen:
    """Mode, owner, time and content of every file, as a process in the image sees them."""
    facts, sums, links = pybuild("run", image, "sh", "-c", IN_RUN).out.split("---\n")
    contents = {line[66:].strip("/"): line[:64] for line in sums.splitlines()}
    rows = links.splitlines()
    contents |= {path.strip("/"): to for to, path in zip(rows[::2], rows[1::2], strict=True)}
    found: Seen = {}
    for line in facts.splitlines():
        mode, uid, gid, mtime, path = line.split("|", 4)
        name = path.strip("/")
        if not is_foreign(name):
            # Directories' times belong to who looked last: the sandbox mounts files in some.
            is_dir = stat.S_ISDIR(int(mode, 16))
            when = None if is_dir else int(mtime)
            found[name] = (int(mode, 16), int(uid), int(gid), when, contents.get(name))
    return found


def seen_on_disk(root: Path) -> Seen:
    found: Seen = {}
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(directory, name)
            status = path.lstat()
            when = None if stat.S_ISDIR(status.st_mode) else int(status.st_mtime)
            content: str | None = None
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            facts = (status.st_mode, status.st_uid, status.st_gid, when, content)
            found[str(path.relative_to(root))] = facts
    return {path: facts for path, facts in found.items() if not is_foreign(path)}


_KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.LNKTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


def seen_in_tar(path: Path) -> Seen:
    found: Seen = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = member.name.strip("./")
            content: str | None = None
            if member.issym():
                content = member.linkname
            elif member.isreg() or member.islnk():
                file = tar.extractfile(member)
                assert file is not None
                content = hashlib.sha256(file.read()).hexdigest()
            when = None if member.isdir() else int(member.mtime)
            mode = member.mode | _KINDS[member.type]
            found[name] = (mode, member.uid, member.gid, when, content)
    return {path: facts for path, facts in found.items() if not is_foreign(path)}


def without_owners(seen: Seen) -> Seen:
    """As a directory of the user's own must be: set-uid would grant another's powers."""
    return {
        path: (
            int(str(mode)) & ~(stat.S_ISUID | stat.S_ISGID if stat.S_ISREG(int(str(mode))) else 0),
            *rest,
        )
        for path, (mode, _, _, *rest) in seen.items()
    }


def test_a_tar_holds_what_a_process_in_the_image_sees(
    pybuild: Pybuild, app: Path, tmp_path: Path
) -> None:
    """OUT-6: numeric owners, special bits, times; nothing of whiteouts."""
    pybuild("build", "-o", f"type=tar,dest={tmp_path}/tree.tar", app)
    assert seen_in_tar(tmp_path / "tree.tar") == seen_by_run(pybuild, "app")


def test_a_directory_holds_the_same_files_owned_by_who_asked(
    pybuild: Pybuild, app: Path, tmp_path: Path
) -> None:
    """OUT-5, OUT-16."""
    pybuild("build", "-o", tmp_path / "tree", app)
    on_disk = seen_on_disk(tmp_path / "tree")
    assert without_owners(on_disk) == without_owners(seen_by_run(pybuild, "app"))
    assert {uid for _, uid, *_ in on_disk.values()} == {os.geteuid()}
    assert (tmp_path / "tree/d/hard").samefile(tmp_path / "tree/d/sub/two")


def test_a_bundle_holds_the_same_files_with_their_owners(
    pybuild: Pybuild, app: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("other owners need root")
    pybuild("unpack", "app", tmp_path / "bundle")
    assert seen_on_disk(tmp_path / "bundle/rootfs") == seen_by_run(pybuild, "app")


def skopeo(*words: str) -> str:
    need("skopeo")
    done = subprocess.run(
        ["skopeo", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def checked_layout(layout: Path) -> dict[str, Any]:
    """The config of a layout's only image, after everything below it was recomputed."""
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    descriptor = Descriptor.from_json(entry)

    def path(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    def open_blob(digest: Digest) -> BinaryIO:
        return path(digest).open("rb")

    assert_valid(open_blob, descriptor)
    manifest = json.loads(path(descriptor.digest).read_text())
    config: dict[str, Any] = json.loads(path(manifest["config"]["digest"]).read_text())
    return config


@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed"])
def test_an_oci_archive_is_read_by_peers_and_every_digest_is_right(
    pybuild: Pybuild, app: Path, tmp_path: Path, compression: str
) -> None:
    """OUT-3, with OUT-7's compressions."""
    archive = tmp_path / "app.tar"
    output = f"type=oci,dest={archive},compression={compression},name=registry.test/app:7"
    pybuild("build", "-o", output, app)
    shown = json.loads(skopeo("inspect", f"oci-archive:{archive}:7"))
    assert shown["Labels"] == {"kind": "everything"}
    skopeo("copy", "-q", f"oci-archive:{archive}:7", f"oci:{tmp_path}/copied:7")
    config = checked_layout(tmp_path / "copied")
    assert config["config"]["Cmd"] == ["cat", "/d/one"]
    image = json.loads(pybuild("inspect", "--oci", "app").out)
    assert config["rootfs"] == image["config"]["rootfs"], "the trees do not depend on packing"


def test_an_oci_directory_is_the_archive_unpacked(
    pybuild: Pybuild, app: Path, tmp_path: Path
) -> None:
    output = f"type=oci,tar=false,dest={tmp_path}/layout,name=registry.test/app:7"
    pybuild("build", "-o", output, app)
    assert checked_layout(tmp_path / "layout")["config"]["Labels"] == {"kind": "everything"}
    skopeo("inspect", f"oci:{tmp_path}/layout:7")


def test_a_docker_archive_is_loaded_by_peers(pybuild: Pybuild, app: Path, tmp_path: Path) -> None:
    """OUT-4: what ``docker load`` reads."""
    archive = tmp_path / "app.tar"
    done = pybuild("build", "-t", "registry.test/app:7", "-o", f"type=docker,dest={archive}", app)
    assert "registry.test/app:7" not in pybuild("images").out, "asked for an archive only"
    source = f"docker-archive:{archive}:registry.test/app:7"
    assert json.loads(skopeo("inspect", source))["RepoTags"] == []
    skopeo("copy", "-q", source, f"oci:{tmp_path}/copied:7")
    config = checked_layout(tmp_path / "copied")
    image = json.loads(pybuild("inspect", "--oci", "app").out)
    assert config["rootfs"]["diff_ids"] == image["config"]["rootfs"]["diff_ids"]
    assert config["config"] == image["config"]["config"]
    assert "exporting to docker image format" in done.err


def test_the_store_is_read_in_place_image_by_image(
    pybuild: Pybuild, app: Path, tmp_path: Path
) -> None:
    """STO-2: it is an OCI layout; full names tell its images apart."""
    pybuild("tag", "app", "registry.test/other:latest")
    for name in ("docker.io/library/app:latest", "registry.test/other:latest"):
        shown = json.loads(skopeo("inspect", f"oci:{pybuild.store}:{name}"))
        assert shown["Labels"] == {"kind": "everything"}
    shown = json.loads(skopeo("inspect", f"oci:{pybuild.store}:docker.io/library/base:latest"))
    assert not shown["Labels"]


def test_equal_trees_are_equal_bytes(pybuild: Pybuild, app: Path, tmp_path: Path) -> None:
    """REP-1: the second writing of a result is the first."""
    for kind in ("oci", "docker", "tar"):
        for number in (1, 2):
            pybuild("build", "-o", f"type={kind},dest={tmp_path}/{kind}{number}.tar", app)
        first, second = ((tmp_path / f"{kind}{n}.tar").read_bytes() for n in (1, 2))
        assert first == second, kind
