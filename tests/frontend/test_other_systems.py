"""Images of other operating systems than linux: everything but steps [FROM-9, WD-1, EV-9]."""

from __future__ import annotations

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import Copy, FileOp, Mkdir, StepSettings
from pybuild.model.platform import Platform
from tests.frontend.lowering import build, execs, image

WINDOWS = Platform.parse("windows/amd64")
SERVER = Platform.parse("windows(10.0.20348.1006)/amd64")


def test_windows_images_have_their_own_shell_and_no_path() -> None:
    """EV-9."""
    config = build("FROM scratch\nENTRYPOINT foo bar\n", target_platform=WINDOWS).config
    assert (config["os"], config["architecture"]) == ("windows", "amd64")
    assert config["config"]["Entrypoint"] == ["cmd", "/S", "/C", "foo bar"]
    assert "Env" not in config["config"]


def test_darwin_images_are_as_those_of_linux() -> None:
    lowered = build("FROM scratch\nCMD x\n", target_platform=Platform.parse("darwin/ppc64le"))
    assert lowered.config["config"]["Cmd"] == ["/bin/sh", "-c", "x"]
    assert str(lowered.platform) == "darwin/ppc64le"


def test_paths_of_windows() -> None:
    r"""WD-1: ``C:\`` and back slashes; the config has them, file actions have none."""
    text = "# escape=`\nFROM scratch\nWORKDIR C:\\app\nWORKDIR sub\nCOPY a\\b c:\\x\\\nCOPY c d\\\n"
    lowered = build(text, target_platform=WINDOWS)
    assert lowered.config["config"]["WorkingDir"] == "\\app\\sub"
    op = lowered.result.op
    assert isinstance(op, FileOp) and isinstance(op.actions[0], Copy)
    assert op.actions[0].dest == "/app/sub/d/"
    op = lowered.result.inputs[0].op
    assert isinstance(op, FileOp) and isinstance(op.actions[0], Copy)
    assert (op.actions[0].source, op.actions[0].dest) == ("/a/b", "/x/")
    op = lowered.result.inputs[0].inputs[0].op
    assert isinstance(op, FileOp) and isinstance(op.actions[0], Mkdir)
    assert op.actions[0].path == "/app/sub"


@pytest.mark.parametrize("line", ["WORKDIR D:\\x", "COPY a d:/x", "COPY D:\\a x", "WORKDIR C:"])
def test_other_drives_are_refused(line: str) -> None:
    """WD-1."""
    with pytest.raises(UserError, match="drive"):
        build(f"# escape=`\nFROM scratch\n{line}\n", target_platform=WINDOWS)


def test_steps_of_windows_are_refused_where_they_stand() -> None:
    with pytest.raises(UserError, match="windows/amd64 is not supported for RUN") as caught:
        build("FROM scratch\nCOPY a /\nRUN x\n", target_platform=WINDOWS)
    assert caught.value.spans[0].first_line == 3


def test_version_of_windows_is_shown_and_kept() -> None:
    """FROM-9: a base image's is kept where nobody asks for another."""
    text = "FROM scratch\nARG TARGETPLATFORM\nARG TARGETOSVERSION\nLABEL p=$TARGETPLATFORM v=$TARGETOSVERSION\n"
    lowered = build(text, target_platform=SERVER, platform_explicit=True)
    assert lowered.config["os.version"] == "10.0.20348.1006"
    assert lowered.config["config"]["Labels"] == {"p": str(SERVER), "v": "10.0.20348.1006"}
    base = {**image(platform=WINDOWS), "os.version": "10.0.20348.1006"}
    found = build("FROM w\n", images={"w": base}, target_platform=WINDOWS, platform_explicit=True)
    assert found.config["os.version"] == "10.0.20348.1006"
    assert found.platform == SERVER


def test_hostname_of_steps() -> None:
    """EV-12: the build arg wins over the request's."""
    args = {"BUILDKIT_SANDBOX_HOSTNAME": "box"}
    steps = StepSettings(hostname="bar")
    assert execs(build("FROM a\nRUN x\n", steps=steps))[0].settings == steps
    op = execs(build("FROM a\nRUN x\n", steps=steps, build_args=args))[0]
    assert op.settings.hostname == "box"
