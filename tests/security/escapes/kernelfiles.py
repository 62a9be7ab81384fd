"""Attempts on files of /proc and /sys."""

from __future__ import annotations

from tests.security.escapes.attempt import DENIED, Escape

KERNEL_FILES = (
    Escape(name="core_pattern", script="echo '|/x' > /proc/sys/kernel/core_pattern", shows=DENIED),
    Escape(name="modprobe", script="echo /x > /proc/sys/kernel/modprobe", shows=DENIED),
    Escape(name="sysrq", script="echo h > /proc/sysrq-trigger", shows=DENIED),
    Escape(
        name="binfmt",
        script="echo ':x:M::x::/x:' > /proc/sys/fs/binfmt_misc/register",
        shows=DENIED,
    ),
    Escape(name="uevent helper", script="echo /x > /sys/kernel/uevent_helper", shows=DENIED),
    Escape(name="forwarding", script="echo 1 > /proc/sys/net/ipv4/ip_forward", shows=DENIED),
    Escape(
        name="memory of the kernel", script="head -c 4 /proc/kcore | wc -c", shows="^0$|" + DENIED
    ),
    Escape(name="keys of others", script="wc -c < /proc/keys", shows="^0$|" + DENIED),
    Escape(name="timers of others", script="wc -c < /proc/timer_list", shows="^0$"),
    Escape(name="firmware", script="ls /sys/firmware | wc -l", shows="^0$"),
    Escape(name="interrupts", script="echo 1 > /proc/irq/default_smp_affinity", shows=DENIED),
    Escape(name="buses", script="touch /proc/bus/x; touch /proc/fs/x", shows=DENIED),
    Escape(
        name="spared by the killer",
        script="echo -1000 > /proc/self/oom_score_adj",
        shows=DENIED,
    ),
    Escape(name="map other ids", script="echo '0 0 100' > /proc/self/uid_map", shows=DENIED),
)
