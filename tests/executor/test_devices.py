"""Devices that files of the Container Device Interface describe [RUN-7, SEC-5]."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pybuild.executor import devices
from pybuild.executor.devices import find_devices, list_devices
from pybuild.executor.runner import BuildRunner
from pybuild.executor.steps.spec import DeviceEdits, StepMountType
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.events import Event, VertexLog
from pybuild.model.ops import (
    Copy,
    Device,
    ExecOp,
    FileOp,
    LocalSource,
    Mount,
    NetworkMode,
    ScratchSource,
    StepSettings,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.snapshot import LocalTree, Snapshot
from tests.executor.sandbox_helpers import make_base, skip_unless_possible
from tests.executor.sourcesites import SourceSite, on_site

ALL = frozenset(("device",))
CLASS = "org.mobyproject.buildkit.device.class"
AUTO = "org.mobyproject.buildkit.device.autoallow"


def env(*variables: str) -> dict[str, object]:
    return {"env": list(variables)}


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """Two devices of one vendor, one of them of a class; a free one of another."""
    write(
        tmp_path / "one.json",
        kind="v.example/dev",
        containerEdits=env("SHARED=1"),
        devices=[
            {"name": "a", "containerEdits": env("A=1"), "annotations": {CLASS: "fast"}},
            {"name": "b", "containerEdits": env("B=1")},
        ],
    )
    write(
        tmp_path / "two.json",
        kind="w.example/dev",
        annotations={AUTO: "true"},
        devices=[{"name": "c", "containerEdits": env("C=1"), "annotations": {CLASS: "fast"}}],
    )
    return tmp_path


def write(path: Path, **spec: object) -> None:
    path.write_text(json.dumps({"cdiVersion": "0.6.0", **spec}))


def found(specs: Path, name: str, allowed: frozenset[str] = ALL) -> DeviceEdits:
    return find_devices([Device(name=name, required=True)], allowed, [str(specs)])


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("v.example/dev=b", ("SHARED=1", "B=1")),
        ("v.example/dev", ("SHARED=1", "A=1")),
        ("v.example/dev=*", ("SHARED=1", "A=1", "B=1")),
        ("fast", ("SHARED=1", "A=1", "C=1")),
    ],
)
def test_what_names_mean(specs: Path, name: str, variables: tuple[str, ...]) -> None:
    assert found(specs, name).env == variables


def test_nodes_and_mounts(tmp_path: Path) -> None:
    edits = {
        "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"}, {"path": "/dev/zero"}],
        "mounts": [
            {"hostPath": "/lib/x", "containerPath": "/x", "options": ["ro", "bind"]},
            {"hostPath": "/run/y", "containerPath": "/y", "options": ["rw"]},
        ],
    }
    write(tmp_path / "x.json", kind="v/d", devices=[{"name": "a", "containerEdits": edits}])
    mounts = found(tmp_path, "v/d=a").mounts
    assert [(m.type, m.source, m.target, m.readonly) for m in mounts] == [
        (StepMountType.DEVICE, "/dev/null", "/dev/x", False),
        (StepMountType.DEVICE, "/dev/zero", "/dev/zero", False),
        (StepMountType.BIND_PATH, "/lib/x", "/x", True),
        (StepMountType.BIND_PATH, "/run/y", "/y", False),
    ]


def test_nodes_that_may_only_be_read_are_refused(tmp_path: Path) -> None:
    edits = {"deviceNodes": [{"path": "/dev/x", "permissions": "r"}]}
    write(tmp_path / "x.json", kind="v/d", devices=[{"name": "a", "containerEdits": edits}])
    with pytest.raises(EnvironmentFault, match="permissions 'r' cannot be kept"):
        found(tmp_path, "v/d=a")


def test_who_may_have_them(specs: Path) -> None:
    """SEC-5; a file can say that its devices need no permission."""
    nobody: frozenset[str] = frozenset()
    assert found(specs, "w.example/dev=c", nobody).env == ("C=1",)
    with pytest.raises(
        UserError, match=r"device v\.example/dev=b is requested by the build but not allowed"
    ):
        found(specs, "v.example/dev=b", frozenset(("device=v.example/dev=a",)))
    for grant in ("device", "device=v.example/dev=b", "device=v.example/dev=*"):
        assert found(specs, "v.example/dev=b", frozenset((grant,))).env == ("SHARED=1", "B=1")


def test_a_device_that_is_not_there(specs: Path) -> None:
    """Left out unless required."""
    where = [str(specs), str(specs / "none")]
    assert find_devices([Device(name="x/y=z")], frozenset(), where) == DeviceEdits()
    with pytest.raises(UserError, match='required device "x/y=z" is not registered'):
        find_devices([Device(name="x/y=z", required=True)], ALL, where)


def test_yaml_is_read_as_json_is(tmp_path: Path) -> None:
    text = f"kind: x/y\nannotations:\n  {AUTO}: true\ndevices:\n- name: z\n"
    (tmp_path / "x.yaml").write_text(text + "  containerEdits:\n    env: [Z=1]\n")
    assert found(tmp_path, "x/y=z", frozenset()).env == ("Z=1",)
    assert list_devices(frozenset(), [str(tmp_path)]) == [("x/y=z", True, {AUTO: "true"})]
    (tmp_path / "x.yaml").write_text(
        text + "  containerEdits: {env: &all [A=on, B=0644]}\n- {name: 0, containerEdits: ~}\n"
    )
    assert found(tmp_path, "x/y=z", frozenset()).env == ("A=on", "B=0644")
    assert found(tmp_path, "x/y=0", frozenset()) == DeviceEdits()
    (tmp_path / "x.yaml").write_text(text + "  containerEdits: [\n")
    with pytest.raises(EnvironmentFault, match=r"x\.yaml: .*line 7"):
        found(tmp_path, "x/y=z")
    assert list_devices(frozenset(), [str(tmp_path)]) == []


def test_later_directories_win(specs: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    write(later / "w.json", kind="w.example/dev", devices=[{"name": "c"}])
    device = Device(name="w.example/dev=c")
    assert find_devices([device], ALL, [str(specs), str(later)]) == DeviceEdits()


@pytest.mark.parametrize("name", ["hooks", "intelRdt", "additionalGids", "netDevices"])
def test_what_steps_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x.json", kind="v/d", devices=[{"name": "a", "containerEdits": {name: [1]}}])
    with pytest.raises(UserError, match=f"wants {name}, which steps cannot have"):
        found(tmp_path, "v/d=a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"kind": "x"}',
        '{"kind": "v/d", "devices": {}}',
        '{"kind": "v/d", "devices": [{}]}',
        '{"kind": "v/d", "devices": [{"name": "a", "containerEdits": 1}]}',
        '{"kind": "v/d", "devices": [{"name": "a", "containerEdits": {"env": ["x"]}}]}',
        '{"kind": "v/d", "devices": [{"name": "a", "containerEdits": {"deviceNodes": [{}]}}]}',
        '{"kind": "v/d", "devices": [{"name": "a", "containerEdits": {"mounts": [{}]}}]}',
        "[" * 100_000,
    ],
)
def test_broken_files_are_said_to_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(EnvironmentFault, match=r"x\.json"):
        found(tmp_path, "v/d=a")


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_step_opens_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SBX-7: the node works, unlike nodes in other mounts; nothing of it is in the result."""
    skip_unless_possible()
    edits = {
        "env": ["FOUND=yes"],
        "deviceNodes": [{"path": "/dev/mine/zero", "hostPath": "/dev/zero"}],
        "mounts": [{"hostPath": str(tmp_path / "lib"), "containerPath": "/lib", "options": ["ro"]}],
    }
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/f").write_text("of the host\n")
    (tmp_path / "cdi").mkdir()
    write(tmp_path / "cdi/x.json", kind="v/d", devices=[{"name": "a", "containerEdits": edits}])
    monkeypatch.setattr(devices, "DIRECTORIES", (str(tmp_path / "cdi"),))
    script = (
        "echo $FOUND; read -n 1 x < /dev/mine/zero; echo $?; test -c /dev/mine/zero && echo node; "
        "read line < /lib/f; echo $line; echo x > /lib/f || echo refused"
    )

    async def body(site: SourceSite) -> None:
        base = LocalTree(str(make_base(tmp_path / "base")))
        events: list[Event] = []
        async with site.sources() as sources:
            runner = BuildRunner(
                site.store,
                site.workers,
                fetcher=None,  # type: ignore[arg-type]
                locals={"context": base},
                sources=sources,
                allow=ALL,
            )
            async with runner:
                local, scratch = Vertex(LocalSource(name="context")), Vertex(ScratchSource())
                copy = Vertex(
                    FileOp(actions=(Copy(input=1, source="/", dest="/"),)), (scratch, local)
                )
                root = await runner.run(copy, [Snapshot(), base], events.append)
                step = ExecOp(
                    args=("/bin/sh", "-c", script),
                    env=("PATH=/bin",),
                    cwd="/",
                    mounts=(Mount(target="/", input=0, output=True),),
                    platform=LINUX_AMD64,
                    settings=StepSettings(network=NetworkMode.NONE),
                    devices=(Device(name="v/d=a"), Device(name="no/such=b")),
                )
                done = await runner.run(Vertex(step, (copy,)), [root], events.append)
        out = b"".join(e.data for e in events if isinstance(e, VertexLog)).decode()
        assert out.startswith("yes\n")
        assert "node\nof the host\n" in out and "refused\n" in out  # two streams, any order
        assert isinstance(done, Snapshot)
        assert "dev" not in os.listdir(site.store.deltas.path(done.deltas[-1]))

    on_site(tmp_path, body)
