"""Attempts by links in the image to files that the builder reads or mounts over."""

from __future__ import annotations

from pybuild.executor.steps.spec import StepMount, StepMountType
from tests.security.escapes.attempt import DENIED, Escape

READ_FILES = (
    Escape(
        name="users of the host",
        script="id; echo $HOME",
        shows=r"unable to find user nobody-here|uid=",
        steps=(("user", "nobody-here"),),
        links=(("etc/passwd", "@HOST@/canary"),),
    ),
    Escape(
        name="mount over a file of the host",
        script="cat @HOST@/canary; echo x > /m/over",
        shows=DENIED,
        steps=(("mounts", (StepMount(type=StepMountType.SECRET, target="/m/over", data=b"s"),)),),
        links=(("m", "@HOST@"),),
        cve="CVE-2024-23652",
    ),
    Escape(
        name="hosts behind a link",
        script="cat @HOST@/canary | head -c 22; echo x > /etc/hosts",
        shows=DENIED,
        links=(("etc/hosts", "@HOST@/canary"),),
    ),
    Escape(
        name="a part of a cache that is a link to the host",
        script="cat /m",
        shows="not found|no such",
        steps=(
            (
                "mounts",
                (
                    StepMount(
                        type=StepMountType.BIND_PATH,
                        source="@CACHE@",
                        target="/m",
                        selector="/link/canary",
                    ),
                ),
            ),
        ),
        cve="CVE-2024-23651",
    ),
    Escape(
        name="out of a cache",
        script="cat /c/link/canary; cat /c/../../../..@HOST@/canary; cd /c; cat ../..@HOST@/canary",
        shows=DENIED,
        steps=(
            (
                "mounts",
                (StepMount(type=StepMountType.BIND_PATH, source="@CACHE@", target="/c"),),
            ),
        ),
    ),
    Escape(
        name="write to a read-only bind",
        script="echo x > /c/new; rm -f /c/link; chmod 777 /c; touch /c; mount -o remount,rw /c",
        shows="read-only",
        steps=(
            (
                "mounts",
                (
                    StepMount(
                        type=StepMountType.BIND_PATH,
                        source="@HOST@",
                        target="/c",
                        selector="/open",
                        readonly=True,
                    ),
                ),
            ),
        ),
    ),
    Escape(
        name="change a secret",
        script="echo x > /run/secrets/s; rm /run/secrets/s; chmod 777 /run/secrets/s",
        shows="read-only",
        steps=(
            (
                "mounts",
                (StepMount(type=StepMountType.SECRET, target="/run/secrets/s", data=b"s"),),
            ),
        ),
    ),
)
