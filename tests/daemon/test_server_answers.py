"""Outputs and errors of a server, and the facts that it gives about itself."""

from __future__ import annotations

import asyncio
import base64
import json
import os

import pytest

from pybuild.buildkit.llb.write import platform_message
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.errors import (
    FrontendCapDetail,
    FrontendDetail,
    SubrequestDetail,
    VertexDetail,
    details_of,
    parse_status,
)
from pybuild.cache.space.prune import Policy
from pybuild.daemon.builds.caches import imports_of
from pybuild.daemon.builds.outputs import outputs_of, response_of
from pybuild.daemon.control.failures import rpc_error
from pybuild.daemon.control.workers import PROTOCOL_VERSION, version, worker
from pybuild.daemon.frontend.attrs import UnsupportedCap
from pybuild.daemon.frontend.subrequests import UnknownRequest
from pybuild.daemon.session.verdicts import SourceRefused
from pybuild.executor.devices import ListedDevice
from pybuild.exporter.built import Exported, MadeImage
from pybuild.exporter.output import Output
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.errors import UsageError, UserError
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.policy import PolicySource
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.vertices import V, W

# --- outputs --------------------------------------------------------------------------------------


def exporter(kind: str, **attrs: str) -> list[Output]:
    named = {name.replace("_", "-"): value for name, value in attrs.items()}
    return outputs_of(pb.SolveRequest(Exporters=[pb.Exporter(Type=kind, Attrs=named)]))


def test_outputs_are_those_of_the_exporters_or_of_the_one_that_old_clients_name() -> None:
    both = pb.SolveRequest(
        Exporters=[pb.Exporter(Type="image", Attrs={"name": "a"}), pb.Exporter(Type="cacheonly")],
        ExporterDeprecated="tar",
    )
    assert outputs_of(both) == [Output(type="image", attrs={"name": "a"}), Output(type="cacheonly")]
    old = pb.SolveRequest(ExporterDeprecated="oci", ExporterAttrsDeprecated={"name": "b"})
    assert outputs_of(old) == [Output(type="oci", attrs={"name": "b"})]
    assert outputs_of(pb.SolveRequest()) == []
    assert exporter("moby", name="c", load="true") == [Output(type="image", attrs={"name": "c"})]


def test_archives_for_docker_have_the_types_that_buildkit_gives_them() -> None:
    def types(**attrs: str) -> bool:
        (output,) = outputs_of(pb.SolveRequest(Exporters=[pb.Exporter(Type="docker", Attrs=attrs)]))
        return output.oci_types

    assert types() and types(tar="false")
    assert not types(**{"oci-mediatypes": "false"})
    assert not types(**{"compatibility-version": "20"})
    exporters = [pb.Exporter(Type="oci"), pb.Exporter(Type="tar")]
    older = pb.SolveRequest(Exporters=exporters, CompatibilityVersion=20)
    assert [one.attrs for one in outputs_of(older)] == [{"compatibility-version": "20"}, {}]
    with pytest.raises(UserError, match='exporter "registry" could not be found'):
        exporter("registry")


def test_trees_take_the_attributes_that_mean_something_to_them() -> None:
    assert exporter("cacheonly", anything="x") == [Output(type="cacheonly")]
    given = {"platform_split": "true", "mode": "copy", "name": "x", "source_date_epoch": "1"}
    (local,) = exporter("local", **given)
    assert local.attrs == {"platform-split": "true", "mode": "copy", "source-date-epoch": "1"}
    (tar,) = exporter("tar", **given)
    assert tar.attrs == {"source-date-epoch": "1"}


def test_a_flag_without_a_value_is_set() -> None:
    (image,) = exporter("image", name="a", push="", store="false", unpack="", danglingname="x")
    assert image.attrs == {"name": "a", "push": "true", "store": "false"}
    with pytest.raises(UsageError, match='has no attribute "nonsense"'):
        exporter("image", nonsense="x")
    with pytest.raises(UsageError, match="tag is needed when pushing"):
        exporter("image", push="true")


@pytest.mark.parametrize(
    ("epoch", "given", "expected"),
    [("7", {}, "7"), ("7", {"source-date-epoch": "8"}, "8"), ("", {}, ""), ("context", {}, None)],
)
def test_the_time_of_a_build_is_that_of_its_images(
    epoch: str, given: dict[str, str], expected: str | None
) -> None:
    request = pb.SolveRequest(
        Exporters=[pb.Exporter(Type="image", Attrs=given)],
        FrontendAttrs={"build-arg:SOURCE_DATE_EPOCH": epoch},
    )
    (output,) = outputs_of(request)
    assert output.attrs.get("source-date-epoch") == expected


def test_an_answer_has_the_facts_of_its_images() -> None:
    assert response_of([]) == response_of([Exported()]) == {}
    descriptor = Descriptor(OCI_MANIFEST, V, 5)
    made = MadeImage(descriptor=descriptor, image_id=W)
    facts = response_of([Exported(made=made, metadata={"image.name": "a", "n": 3}), Exported()])
    document = json.loads(base64.b64decode(facts.pop("containerimage.descriptor")))
    assert document == {"mediaType": OCI_MANIFEST, "digest": V, "size": 5}
    assert facts == {"image.name": "a", "n": "3"}


def test_caches_to_import_are_those_of_the_request_or_of_old_clients() -> None:
    entry = pb.CacheOptionsEntry(Type="local", Attrs={"src": "d"})
    options = pb.CacheOptions(Imports=[entry], ImportRefsDeprecated=["r"])
    assert imports_of(options) == [("local", {"src": "d"})]
    assert imports_of(pb.CacheOptions(ImportRefsDeprecated=["r", "s"])) == [
        ("registry", {"ref": "r"}),
        ("registry", {"ref": "s"}),
    ]
    assert imports_of(pb.CacheOptions()) == []


# --- the server itself ----------------------------------------------------------------------------


def test_a_server_says_what_it_is() -> None:
    policies = [
        Policy(all=True, keep_duration_s=1.5, filters=("type==x",), reserved_space=1),
        Policy(max_used_space=2, min_free_space=3),
    ]
    platforms = (LINUX_AMD64, Platform("linux", "arm", "v7"))
    labels = {"mine": "x", "pybuild.isolation": "other"}
    devices = [ListedDevice("v/d=a", True, {"k": "v"})]
    found = worker("id", "namespaces", labels, platforms, policies, devices)
    (device,) = found.CDIDevices
    assert (device.Name, device.AutoAllow, dict(device.Annotations)) == ("v/d=a", True, {"k": "v"})
    assert (found.ID, found.Labels["mine"]) == ("id", "x")
    assert found.Labels["pybuild.isolation"] == "other"
    assert found.Labels["org.mobyproject.buildkit.worker.hostname"] == os.uname().nodename
    assert [(p.OS, p.Architecture, p.Variant) for p in found.platforms] == [
        ("linux", "amd64", ""),
        ("linux", "arm", "v7"),
    ]
    first, second = found.GCPolicy
    assert (first.all, first.keepDuration, list(first.filters)) == (
        True,
        1_500_000_000,
        ["type==x"],
    )
    assert (first.reservedSpace, first.maxUsedSpace, first.minFreeSpace) == (1, 0, 0)
    assert (second.all, second.keepDuration) == (False, 0)
    assert (second.reservedSpace, second.maxUsedSpace, second.minFreeSpace) == (0, 2, 3)
    assert found.BuildkitVersion == version() and version().version == PROTOCOL_VERSION
    assert worker("i", "none", {}, (), (), ()).Labels["pybuild.isolation"] == "none"
    assert platform_message(platforms[1]).Variant == "v7"


# --- errors ---------------------------------------------------------------------------------------


def brief(error: RpcError) -> list[object]:
    status = parse_status(error.brief)
    assert status is not None and status.code == error.code
    kinds = (FrontendCapDetail, FrontendDetail, SubrequestDetail, VertexDetail)
    return [detail for detail in details_of(status) if isinstance(detail, kinds)]


def test_errors_tell_what_their_kind_knows() -> None:
    found = rpc_error(UserError("no"), "dockerfile.v0", vertex=V)
    assert (found.code, found.message) == (Code.UNKNOWN, "no")
    assert brief(found) == [VertexDetail(V), FrontendDetail("dockerfile.v0")]
    found = rpc_error(UnsupportedCap("c"))
    assert found.code is Code.UNIMPLEMENTED and brief(found) == [FrontendCapDetail("c")]
    found = rpc_error(UnknownRequest("r"))
    assert found.code is Code.UNIMPLEMENTED and brief(found) == [SubrequestDetail("r")]
    refused = SourceRefused(PolicySource("docker-image://x"), "DENY", ("because",))
    bare = SourceRefused(PolicySource("docker-image://x"), "DENY")
    kinds: list[bool] = []
    for error in (refused, bare):
        status = parse_status(rpc_error(error).brief)
        assert status is not None
        urls = [detail.type_url.rpartition("/")[2] for detail in status.details]
        kinds.append("policysession.DecisionResponse+json" in urls)
    assert kinds == [True, False]
    assert brief(rpc_error(UserError("no"))) == []


def test_faults_of_ours_are_called_so_and_others_pass() -> None:
    found = rpc_error(ZeroDivisionError("oops"))
    assert found.message == "internal error: ZeroDivisionError: oops"
    assert found.code is Code.INTERNAL
    ready = RpcError(Code.NOT_FOUND, "x")
    assert rpc_error(ready) is ready
    cancelled = rpc_error(asyncio.CancelledError())  # type: ignore[arg-type]
    assert (cancelled.code, cancelled.message) == (Code.CANCELLED, "context canceled")
