"""One image whoever builds it: root, root in a container without mounts, users [REP-4]."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executor.plain_user import UID, PlainUser, need_packages, need_sub_ids, plain_user
from tests.harness import write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

# cap_net_raw+ep, as setcap(8) writes it
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
PASSWD = "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nwww:x:33:33::/:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\nwww:x:33:\nstaff:x:50:\nextra:x:77:app\n"
APPLETS = "sh ls cat chown chmod mkdir touch ln mknod mkfifo cp id stat mv rm chgrp find sort"
DOCKERFILE = """\
FROM scratch AS base
ADD base.tar /
FROM base AS made
COPY --chown=app:staff src /opt/src
COPY --chown=33 --chmod=4755 src/f /opt/f
RUN chown -R www:app /opt/src/d && ln -s f /opt/l && chown -h 7:8 /opt/l && mkfifo /opt/p \\
 && chown 3:4 /opt/p && chmod u+s /opt/src/f && touch /var/local/x && mkdir /var/local/sub \\
 && cp -a /etc/shadow /etc/shadow- && mv /link /link2 && cp -a /opt/src /opt/copy
USER app
WORKDIR /home/app/made/deep
RUN umask 027; touch f; mkdir d; ln -s f l; mkfifo p; id > id; chgrp extra f; chmod 4711 f; \\
 chown 0 f 2> /dev/null || echo no > refused; stat -c '%n %u %g' /opt/l /opt/p /link2 /pipe > seen
USER www:staff
RUN touch /var/local/www /tmp/www
USER root
RUN echo more >> /etc/shadow; touch /capped; cp -a /opt/src/d /opt/moved; @MORE@
FROM base
COPY --from=made / /all/
COPY --from=made --chown=5:6 /opt/copy /given/
RUN find /all ! -name 'null*' -exec stat -c '%n %u %g %a %F' {} + | sort > /list
"""
MAIN = """
import json, os, runpy, sys
os.environ["HOME"] = sys.argv[1]
os.environ["PYBUILD_ROOT"] = sys.argv[1] + "/store"
sys.argv[:2] = ["pybuild"]
runpy.run_module("pybuild", run_name="__main__")
"""


def base_tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, kind: bytes, data: bytes = b"", **facts: int | str) -> tarfile.TarInfo:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mtime = kind, len(data), 1000
            info.mode = 0o755
            for key, value in facts.items():
                setattr(info, key, value)
            if name == "capped":
                text = CAPABILITY.decode("latin-1")
                info.pax_headers = {"SCHILY.xattr.security.capability": text}
            tar.addfile(info, io.BytesIO(data))
            return info

        for name in ("bin", "etc", "home", "var"):
            add(name, tarfile.DIRTYPE)
        add("tmp", tarfile.DIRTYPE, mode=0o1777)
        busybox = Path("/bin/busybox").read_bytes()
        add("bin/busybox", tarfile.REGTYPE, busybox)
        for applet in APPLETS.split():
            add(f"bin/{applet}", tarfile.LNKTYPE, linkname="bin/busybox")
        add("etc/passwd", tarfile.REGTYPE, PASSWD.encode(), mode=0o644)
        add("etc/group", tarfile.REGTYPE, GROUP.encode(), mode=0o644)
        add("etc/shadow", tarfile.REGTYPE, b"root:*:1:0:9:7:::\n", mode=0o640, gid=42)
        add("home/app", tarfile.DIRTYPE, uid=1000, gid=1000)
        add("var/local", tarfile.DIRTYPE, mode=0o2775, gid=50)
        add("bin/tool", tarfile.REGTYPE, b"tool", mode=0o6755, uid=33, gid=50)
        add("link", tarfile.SYMTYPE, linkname="etc/passwd", uid=33, gid=44)
        add("hard", tarfile.LNKTYPE, linkname="link", uid=33, gid=44)
        add("pipe", tarfile.FIFOTYPE, uid=5, gid=6)
        add("null", tarfile.CHRTYPE, mode=0o666, gid=5, devmajor=1, devminor=3)
        add("capped", tarfile.REGTYPE, b"x", gid=9)
    return made.getvalue()


@pytest.fixture(scope="module")
def user() -> Iterator[PlainUser]:
    with plain_user() as made:
        need_packages(made)
        yield made


def build(
    user: PlainUser,
    name: str,
    *,
    more: str = ":",
    sub_ids: bool = False,
    on_overlay: bool = False,
    inside: tuple[str, ...] = (),
) -> str:
    """Build as root or as the user, and return the digest of the manifest.

    Args:
        on_overlay: the store is on an overlay, as in a container, so that no other can write there.
        inside: what runs the build, as the user.
    """
    here = user.place / name
    (here / "home").mkdir(parents=True)
    context = write(here / "ctx", Dockerfile=DOCKERFILE.replace("@MORE@", more))
    write(context / "src", f="f")
    write(context / "src/d", y="y")
    (context / "src/l").symlink_to("f")
    (context / "base.tar").write_bytes(base_tar())
    for path in (here, *here.rglob("*")):
        os.utime(path, (1000, 1000), follow_symlinks=False)
        if not name.startswith("root"):
            os.chown(path, UID, UID, follow_symlinks=False)
    attrs = f"type=oci,tar=false,dest={here}/oci,rewrite-timestamp=true"
    words = ["build", "-o", attrs, "--build-arg", "SOURCE_DATE_EPOCH=1700000000", str(context)]
    home, setup = str(here / "home"), ""
    if on_overlay:
        for part in ("lower", "upper", "work", "merged"):
            (here / "overlay" / part).mkdir(parents=True)
            os.chown(here / "overlay" / part, *((0, 0) if "root" in name else (UID, UID)))
        home = str(here / "overlay/merged")
        parts = ",".join(f"{part}dir={here}/overlay/{part}" for part in ("lower", "upper", "work"))
        setup = f"mount -t overlay -o {parts} overlay {home};"
    user.python(
        *(MAIN, home, *words),
        setup=setup,
        inside=inside,
        sub_ids=sub_ids,
        root=name.startswith("root"),
        jailed=name.startswith("root-jailed"),
    )
    (entry,) = json.loads((here / "oci/index.json").read_text())["manifests"]
    digest: str = entry["digest"]
    return digest


def test_the_digest_is_the_same_as_root_with_a_range_and_with_one_id(user: PlainUser) -> None:
    need_sub_ids()
    digests = {
        "root": build(user, "root"),
        "range": build(user, "range", sub_ids=True),
        "one": build(user, "one"),
    }
    assert len(set(digests.values())) == 1, digests


def test_the_digest_is_the_same_as_root_of_a_user_namespace(user: PlainUser) -> None:
    """Such a root has all capabilities, but only the ids that were mapped."""
    need_sub_ids()
    digests = {
        "root": build(user, "root-outside"),
        "range": build(
            user, "nested-range", sub_ids=True, inside=("unshare", "--map-root-user", "--map-auto")
        ),
        "one": build(user, "nested-one", inside=("unshare", "--map-root-user")),
    }
    assert len(set(digests.values())) == 1, digests


def test_devices_that_steps_make_are_the_same_as_root_and_with_one_id(user: PlainUser) -> None:
    """In a range of ids mknod is refused, as it always was."""
    more = "mknod /dev8 b 8 1; chmod 600 /dev8; chown 0:6 /dev8; mv /null /null2; cp -a /dev8 /dev9"
    one = build(user, "one-device", more=more)
    assert one == build(user, "root-device", more=more)


def test_the_digest_is_the_same_in_a_container_that_may_not_mount(user: PlainUser) -> None:
    assert build(user, "root-jailed") == build(user, "root-free")


def test_devices_and_replaced_directories_are_the_same_in_a_container(user: PlainUser) -> None:
    more = (
        "mknod /dev8 b 8 1; chmod 600 /dev8; chown 0:6 /dev8; mv /null /null2; cp -a /dev8 /dev9;"
        "rm -r /opt/copy; mkdir /opt/copy; touch /opt/copy/new; rm -r /var/local; touch /var/local;"
        "rm /opt/f; mkdir -m 711 /opt/f; mv /home/app /home/other; ln /opt/src/f /opt/hard;"
        "chmod 755 /opt/moved; : >> /capped; touch -d @5 /opt; mkfifo /opt/p2; mv /opt/l /opt/l2"
    )
    assert build(user, "root-jailed-more", more=more) == build(user, "root-more", more=more)


def test_the_digest_is_the_same_where_the_store_is_on_an_overlay(user: PlainUser) -> None:
    """In a container it is, whose own root is one: snapshots are copied, deletions are noted."""
    need_sub_ids()
    more = "rm -r /opt/copy; mkdir /opt/copy; touch /opt/copy/new; rm /opt/f; mkdir -m 711 /opt/f"
    digests = {
        "plain": build(user, "root-plain", more=more),
        "overlay": build(user, "root-overlay", more=more, on_overlay=True),
        "jailed": build(user, "root-jailed-overlay", more=more, on_overlay=True),
        "range": build(user, "range-overlay", more=more, on_overlay=True, sub_ids=True),
    }
    assert len(set(digests.values())) == 1, digests


USING = """\
FROM scratch AS base
ADD base.tar /
FROM base
RUN --mount=type=cache,target=/cache,id=c --mount=type=secret,id=s \\
    cat /run/secrets/s > /dev/null && ls /cache > /seen1 && touch /cache/first
RUN --mount=type=cache,target=/elsewhere,id=c --mount=type=bind,target=/ctx \\
    --mount=type=tmpfs,target=/tmp ls /elsewhere /ctx > /seen2 && touch /tmp/x
RUN --mount=type=bind,from=base,source=/etc,target=/mnt,rw rm /mnt/group && ls /mnt > /seen3
"""


def test_mounts_leave_the_same_in_a_container_that_may_not_mount(user: PlainUser) -> None:
    digests: list[str] = []
    for name in ("mounts", "mounts-jailed"):
        here = user.place / name
        (here / "home").mkdir(parents=True)
        context = write(here / "ctx", Dockerfile=USING)
        (context / "base.tar").write_bytes(base_tar())
        (here / "secret").write_text("hush")
        for path in (here, *here.rglob("*")):
            os.utime(path, (1000, 1000), follow_symlinks=False)
        attrs = f"type=oci,tar=false,dest={here}/oci,rewrite-timestamp=true"
        words = ["build", "-o", attrs, "--build-arg", "SOURCE_DATE_EPOCH=1700000000"]
        words += ["--secret", f"id=s,src={here}/secret", str(context)]
        jailed = name.endswith("jailed")
        user.python(MAIN, str(here / "home"), *words, root=True, jailed=jailed)
        (entry,) = json.loads((here / "oci/index.json").read_text())["manifests"]
        digests.append(entry["digest"])
    assert digests[0] == digests[1]
