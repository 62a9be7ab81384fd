"""Limits of a step as texts for its cgroup, its ulimits, and its settings in the kernel [SBX-12, SBX-13]."""

from __future__ import annotations

import resource

import pytest

from pybuild.executor.steps.spec import StepLimits, StepPrivileges
from pybuild.executor.zygote import limits, surroundings, ulimits
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault

# --- limits as texts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "version", "given", "texts"),
    [
        (
            "memory",
            1,
            StepLimits(memory_bytes=5),
            [("memory.limit_in_bytes", "5", "memory"), ("memory.memsw.limit_in_bytes", "10", "")],
        ),
        (
            *("memory", 1, StepLimits(memory_swap_bytes=-1)),
            [("memory.memsw.limit_in_bytes", "-1", "memory-swap")],
        ),
        (
            "memory",
            2,
            StepLimits(memory_bytes=5),
            [("memory.max", "5", "memory"), ("memory.swap.max", "5", "")],
        ),
        (
            *("memory", 2, StepLimits(memory_bytes=5, memory_swap_bytes=5)),
            [("memory.max", "5", "memory"), ("memory.swap.max", "0", "memory-swap")],
        ),
        (
            *("memory", 2, StepLimits(memory_swap_bytes=5)),
            [("memory.swap.max", "5", "memory-swap")],
        ),
        ("cpu", 2, StepLimits(cpu_quota_us=7), [("cpu.max", "7 100000", "cpu-quota")]),
        ("cpu", 2, StepLimits(cpu_quota_us=-1), [("cpu.max", "max 100000", "cpu-quota")]),
        ("cpu", 1, StepLimits(cpu_quota_us=-1), [("cpu.cfs_quota_us", "-1", "cpu-quota")]),
        ("cpu", 1, StepLimits(), []),
        ("cpu", 2, StepLimits(), []),
        ("pids", 2, StepLimits(), []),
        ("pids", 1, StepLimits(pids=1), [("pids.max", "1", "pids")]),
        ("cpuset", 1, StepLimits(cpuset_mems="1"), [("cpuset.mems", "1", "cpuset-mems")]),
    ],
)
def test_limits_as_texts(
    kind: str, version: int, given: StepLimits, texts: list[tuple[str, str, str]]
) -> None:
    assert limits.files(kind, version, given) == texts


def test_lost_limits_have_the_names_of_their_options() -> None:
    assert limits.flags("cpu", StepLimits(cpu_period_us=1)) == ["cpu-period"]
    assert limits.flags("pids", StepLimits()) == []


# --- ulimits [SBX-12] and settings beside files -----------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (("nofile", 5, 5), ""),
        (("nofile", -1, -1), ""),
        (("nofile", 5, -1), ""),
        (("rttime", 0, (1 << 63) - 1), ""),
        (("nofile", 6, 5), "ulimit nofile=6:5: soft limit is above the hard limit"),
        (("nofile", -1, 5), "ulimit nofile=-1:5: soft limit is above the hard limit"),
        (
            ("core", -2, 5),
            f"ulimit core=-2:5: a limit is a number up to {(1 << 63) - 1}, or -1 for none",
        ),
        (
            ("core", 0, 1 << 63),
            f"ulimit core=0:{1 << 63}: a limit is a number up to {(1 << 63) - 1}, or -1 for none",
        ),
    ],
)
def test_ulimits_that_are_wrong_anywhere(limit: tuple[str, int, int], message: str) -> None:
    assert ulimits.problem(*limit) == message


def test_unknown_ulimits_name_those_that_there_are() -> None:
    message = ulimits.problem("files", 1, 1)
    assert message.startswith('ulimit "files" is not one of as, core, cpu, data, fsize, locks, ')
    with pytest.raises(Fault) as caught:
        ulimits.apply([("core", 2, 1)])
    assert (caught.value.kind, caught.value.message) == (
        USER,
        "ulimit core=2:1: soft limit is above the hard limit",
    )


def test_ulimits_as_they_are_now() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert ulimits.current([("nofile", 1, 1), ("nofile", 2, 2)]) == [("nofile", soft, hard)]
    assert ulimits.apply([("nofile", soft, hard)]) == []
    assert ulimits.current([]) == []


def test_ulimits_above_the_own_ones_are_clamped_and_told_of() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    much = 1 << 40  # more than the kernel gives anybody
    told = "is more than the builder's own hard limit"
    try:
        assert ulimits.apply([("nofile", 64, much)]) == [
            f"ulimit nofile=64:{much} {told}: 64:{hard} is used"
        ]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (64, hard)
        assert ulimits.apply([("nofile", much, much), ("core", 0, -1)]) == [
            f"ulimit nofile={much}:{much} {told}: {hard}:{hard} is used"
        ]
        assert ulimits.apply([("nofile", -1, -1)]) == [
            f"ulimit nofile=unlimited:unlimited {told}: {hard}:{hard} is used"
        ]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        ulimits.raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_sysctls_that_there_are_not_are_the_users() -> None:
    surroundings.write_sysctls(StepPrivileges())
    with pytest.raises(Fault) as caught:
        surroundings.write_sysctls(StepPrivileges(sysctls=(("net.no.such", "1"),)))
    assert (caught.value.kind, caught.value.message) == (
        USER,
        "cannot set sysctl net.no.such=1: no such file or directory",
    )
    with pytest.raises(Fault) as caught:
        surroundings.write_sysctls(StepPrivileges(sysctls=(("net", "1"),)))
    assert (caught.value.kind, caught.value.message) == (
        ENVIRONMENT,
        "cannot set sysctl net=1: is a directory",
    )


def test_a_score_for_memory_that_cannot_be_is_told_of() -> None:
    assert surroundings.adjust_oom_score(StepPrivileges()) == []
    assert surroundings.adjust_oom_score(StepPrivileges(oom_score_adj=5000)) == [
        "--oom-score-adj 5000 is not in force: invalid argument"
    ]
