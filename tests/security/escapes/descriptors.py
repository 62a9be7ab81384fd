"""Attempts by descriptors, working directories and the builder's own program."""

from __future__ import annotations

from tests.security.escapes.attempt import DENIED, Escape

DESCRIPTORS = (
    Escape(
        name="descriptors that were left open",
        script="for n in $(ls /proc/self/fd); do readlink /proc/self/fd/$n; done; echo end;"
        " cat /proc/self/fd/[3-9]/../../../../../../..@HOST@/canary",
        shows="end",
        cve="CVE-2024-21626",
    ),
    *(
        Escape(
            name=f"work in descriptor {number}",
            script="cat ../../../../../../../../..@HOST@/canary; cat @HOST@/canary",
            shows=DENIED,
            steps=(("cwd", f"/proc/self/fd/{number}"),),
            cve="CVE-2024-21626",
        )
        for number in range(3, 12)
    ),
    Escape(
        name="work behind a link to the host",
        script="cat ./canary; pwd",
        shows=DENIED,
        steps=(("cwd", "/out"),),
        links=(("out", "@HOST@"),),
    ),
    Escape(
        name="work in the root of the first process",
        script="cat .@HOST@/canary",
        shows=DENIED,
        steps=(("cwd", "/out"),),
        links=(("out", "/proc/1/root"),),
    ),
    *(
        Escape(
            name=f"take hold of the builder's program {how}",
            script="",
            shows="^tried",
            steps=(
                ("args", args),
                ("env", ("PYTHONHOME=/usr",)),
                ("mounts", "@PROGRAMS@"),
            ),
            links=(("bin/linked", "/proc/self/exe"),),
            cve="CVE-2019-5736",
        )
        for how, args in (
            ("itself", ("/proc/self/exe", "/bin/evil")),
            ("by a script", ("/bin/evil",)),
            ("by a link", ("/bin/linked", "/bin/evil")),
        )
    ),
)
