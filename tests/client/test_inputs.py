"""Inputs that a server may have of this machine, as options name them [CTX, NC-1]."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pybuild.buildkit.pb.errors import status_of
from pybuild.builds.contexts import AMBIGUOUS, BOTH_STDIN
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.client.builders import BuilderRecord
from pybuild.client.connect import client_context
from pybuild.client.content import BlobDirectory
from pybuild.client.events import StatusReader
from pybuild.client.failures import failure
from pybuild.client.inputs import OfferedInputs, gather
from pybuild.image.archive import write_oci_layout
from pybuild.model.errors import Cancelled, EnvironmentFault, StepError, UsageError, UserError
from pybuild.model.span import Span
from pybuild.net.grpc.status import Code, RpcError
from tests.harness import write
from tests.image.images import Blobs, make_image


@pytest.fixture
def scratch(tmp_path: Path) -> str:
    (tmp_path / "scratch").mkdir()
    return str(tmp_path / "scratch")


def offered(
    scratch: str, context: Path | str, dockerfile: Path | str = "", stdin: bytes = b"", **named: str
) -> OfferedInputs:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(stdin)
        theirs.shutdown(socket.SHUT_WR)
        request = BuildRequest(
            context=str(context), dockerfile=str(dockerfile), named_contexts=named
        )
        return gather(request, StandardInput(ours.fileno()), scratch)


def test_a_directory_is_offered_with_the_place_of_its_dockerfile(
    scratch: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", dockerfile="FROM scratch\n")
    found = offered(scratch, context)
    assert found.directories == {"context": str(context), "dockerfile": str(context)}
    assert found.attrs == {"filename": "dockerfile"}
    assert found.shared_key and found.shared_key == offered(scratch, context).shared_key
    other = write(tmp_path / "other", Built="FROM scratch\n")
    found = offered(scratch, context, other / "Built")
    assert found.directories["dockerfile"] == str(other)
    assert found.filenames == {"Built": os.path.relpath(other / "Built")}
    assert found.shared_key != offered(scratch, other, other / "Built").shared_key


def test_standard_input_becomes_a_file_or_an_upload(scratch: str, tmp_path: Path) -> None:
    found = offered(scratch, "-", stdin=b"FROM scratch\n")
    place = Path(found.directories["dockerfile"], "Dockerfile")
    assert place.read_bytes() == b"FROM scratch\n"
    assert list(Path(found.directories["context"]).iterdir()) == []
    archive = b"\x1f\x8b\x08" + bytes(600)
    found = offered(scratch, "-", "sub/D", archive)
    (id,) = found.uploads
    assert found.attrs == {"context": f"http://buildkit-session/{id}", "filename": "sub/D"}
    source = found.uploads[id]()
    assert found.directories == {} and source.read(2) == b"\x1f\x8b"


def test_a_dockerfile_of_ours_goes_beside_a_context_from_elsewhere(
    scratch: str, tmp_path: Path
) -> None:
    mine = write(tmp_path / "m", Dockerfile="FROM scratch\n") / "Dockerfile"
    url = "https://example.com/a.tar"
    assert offered(scratch, url).attrs == {"context": url, "filename": "Dockerfile"}
    found = offered(scratch, url, mine)
    assert found.attrs["dockerfilekey"] == "dockerfile"
    assert found.directories == {"dockerfile": str(mine.parent)}
    found = offered(scratch, "https://example.com/a.git", "https://example.com/D")
    assert found.download == "https://example.com/D" and found.attrs["dockerfilekey"]


def test_named_contexts_are_directories_or_left_to_the_server(scratch: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\n")
    found = offered(scratch, context, d=str(context), i="docker-image://x", g="https://x/y.git")
    assert found.directories["d"] == str(context)
    named = {key: value for key, value in found.attrs.items() if key.startswith("context:")}
    assert named == {
        "context:d": "local:d",
        "context:g": "https://x/y.git",
        "context:i": "docker-image://x",
    }
    with pytest.raises(UserError, match="oci-layout"):
        offered(scratch, context, o=f"oci-layout://{context}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RpcError(Code.UNKNOWN, "no"), UserError),
        (RpcError(Code.UNAVAILABLE, "gone"), EnvironmentFault),
        (RpcError(Code.CANCELLED, "context canceled"), Cancelled),
        (RpcError(Code.UNKNOWN, "no", b"\xff\xff"), UserError),
    ],
)
def test_errors_without_details_go_by_their_code(error: RpcError, kind: type[Exception]) -> None:
    found = failure(error)
    assert type(found) is kind and found.message.endswith(error.message)


def test_lines_are_those_of_the_file_as_the_user_named_it() -> None:
    error = StepError(
        "exit code: 3",
        status=3,
        spans=[Span("Dockerfile", 2, 2)],
        sources={"Dockerfile": ["FROM x", "RUN y"]},
    )
    status = status_of(error).SerializeToString()
    found = failure(
        RpcError(Code.UNKNOWN, "exit code: 3", status),
        StatusReader(),
        {"Dockerfile": "sub/Dockerfile"},
    )
    assert isinstance(found, StepError) and found.log_tail == ()
    assert found.spans == (Span("sub/Dockerfile", 2, 2),)
    assert found.sources == {"sub/Dockerfile": ["FROM x", "RUN y"]}


def test_a_key_needs_its_certificate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without a certificate"):
        client_context(BuilderRecord("", "tcp://x:1", key="k"))
    with pytest.raises(UsageError, match="no: No such file or directory$"):
        client_context(BuilderRecord("", "tcp://x:1", ca=str(tmp_path / "no")))


def test_standard_input_is_one_thing_only(scratch: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        offered(scratch, "-", "-")
    assert caught.value.message == BOTH_STDIN
    with pytest.raises(UserError) as caught:
        offered(scratch, "-", "D", b"FROM scratch\n")
    assert caught.value.message == AMBIGUOUS
    found = offered(scratch, tmp_path, "-", b"FROM scratch\n")
    assert Path(found.directories["dockerfile"], "Dockerfile").read_bytes() == b"FROM scratch\n"
    assert found.directories["context"] == str(tmp_path) and "dockerfilekey" not in found.attrs


def test_a_dockerfile_that_is_not_there_is_named(scratch: str, tmp_path: Path) -> None:
    for given, name in (("", "Dockerfile"), (tmp_path / "Built", "Built")):
        with pytest.raises(UserError) as caught:
            offered(scratch, tmp_path, given)
        assert caught.value.message == (
            f"failed to read dockerfile: open {name}: no such file or directory"
        )
        assert caught.value.hints == ("name another file with -f",)


def test_a_dockerfile_that_is_a_link_is_copied_with_its_ignore_file(
    scratch: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", real="FROM scratch\n", **{"Dockerfile.dockerignore": "x\n"})
    (context / "Dockerfile").symlink_to("real")
    folder = Path(offered(scratch, context).directories["dockerfile"])
    assert str(folder).startswith(scratch)
    assert sorted(path.name for path in folder.iterdir()) == [
        "Dockerfile",
        "Dockerfile.dockerignore",
    ]
    assert (folder / "Dockerfile").read_text() == "FROM scratch\n"


def test_a_relative_dockerfile_is_that_of_a_context_from_elsewhere(scratch: str) -> None:
    url = "https://example.com/a.git"
    assert offered(scratch, url, "sub/D").attrs == {"context": url, "filename": "sub/D"}
    found = offered(scratch, url, "-", b"FROM scratch\n")
    assert found.attrs["dockerfilekey"] == "dockerfile" and found.shared_key == ""


def test_a_layout_is_lent_by_a_name_and_its_digest(scratch: str, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\n")
    (tmp_path / "tree").mkdir()
    blobs = Blobs(tmp_path / "blobs")
    made = make_image(blobs, [tmp_path / "tree"])
    write_oci_layout(str(tmp_path / "l"), blobs.path, made)
    found = offered(scratch, context, a=f"oci-layout:{tmp_path}/l", b=f"oci-layout://{tmp_path}/l")
    named = {key: value for key, value in found.attrs.items() if key.startswith("context:")}
    assert named == {
        "context:a": f"oci-layout://layout0@{made.digest}",
        "context:b": f"oci-layout://layout1@{made.digest}",
    }
    assert found.stores == {
        f"oci:layout{number}": BlobDirectory(str(tmp_path / "l")) for number in (0, 1)
    }


def test_options_without_files_are_an_error_with_a_way_out() -> None:
    with pytest.raises(UsageError) as caught:
        client_context(BuilderRecord("", "tcp://x:1", key="k"))
    assert caught.value.hints == ("give it with --tlscert",)
    assert client_context(BuilderRecord("", "tcp://x:1")).check_hostname
