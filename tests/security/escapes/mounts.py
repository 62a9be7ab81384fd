"""Attempts to mount, unmount and make writable what a step sees."""

from __future__ import annotations

from tests.security.escapes.attempt import DENIED, Escape

MOUNTS = (
    Escape(name="mount a tmpfs", script="mount -t tmpfs x /tmp", shows="not permitted|denied"),
    Escape(name="bind the host's root", script="mount --bind /proc/1/root /mnt", shows=DENIED),
    Escape(name="unmount a mask", script="umount /proc/timer_list", shows=DENIED),
    Escape(name="unmount /proc/sys", script="umount /proc/sys", shows=DENIED),
    Escape(name="unmount /etc/hosts", script="umount /etc/hosts", shows=DENIED),
    Escape(
        name="make /proc/sys writable", script="mount -o remount,rw,bind /proc/sys", shows=DENIED
    ),
    Escape(name="make /sys writable", script="mount -o remount,rw /sys", shows=DENIED),
    Escape(name="make the root take devices", script="mount -o remount,bind,dev /", shows=DENIED),
    Escape(
        name="mount cgroups for a release agent",
        script="mkdir /c; mount -t cgroup -o memory x /c; mount -t cgroup2 x /c",
        shows=DENIED,
        cve="CVE-2022-0492",
    ),
    Escape(
        name="write a release agent that is there",
        script="find /sys/fs/cgroup -name release_agent | while read f; do echo /x > $f; done;"
        " mkdir /sys/fs/cgroup/x",
        shows=DENIED,
        cve="CVE-2022-0492",
    ),
    Escape(name="pivot_root", script="mkdir /n; pivot_root /n /n", shows=DENIED),
)
