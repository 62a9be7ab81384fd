"""When a worker gets no work, and for how long."""

from __future__ import annotations

from pybuild.cluster.health import WorkerHealth


def test_who_lies_is_set_aside_and_each_time_for_twice_as_long() -> None:
    health = WorkerHealth()
    assert health.is_well(0.0)
    assert health.set_aside(100.0, "it lied") == 10.0
    assert not health.is_well(109.9)
    assert health.set_aside(105.0, "again") == 5.0  # for what it did before
    assert health.reason == "it lied"
    assert health.is_well(110.0)
    times: list[float] = []
    for _ in range(8):
        times.append(health.set_aside(health.until, "again"))
    assert times == [20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    assert health.set_aside(health.until + 599.0, "again") == 600.0
    assert health.set_aside(health.until + 601.0, "again") == 10.0


def test_a_machines_faults_need_to_be_some_and_of_several_steps() -> None:
    health = WorkerHealth()
    for at in range(9):
        health.faulted(float(at), "one", "disk")
    assert health.is_well(9.0)  # it may be the step's
    health.faulted(9.0, "two", "disk")
    assert not health.is_well(10.0)
    assert health.reason == "disk"
    other = WorkerHealth()
    for at_s, step in ((0.0, "one"), (1.0, "two"), (700.0, "three")):
        other.faulted(at_s, step, "disk")
    assert other.is_well(701.0)
