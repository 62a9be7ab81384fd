"""A request's own sense, the rights that its steps need, and the options that its text is lowered by."""

from __future__ import annotations

import pytest

from pybuild.builds.contexts import BuildInputs
from pybuild.builds.definition import lower_options
from pybuild.builds.entitlements import check_entitlements
from pybuild.builds.frontendattrs import frontend_attrs
from pybuild.builds.request import BuildRequest, DefinitionRequest
from pybuild.builds.result import BuildResult
from pybuild.exporter.attest.options import AttestOptions, Provenance
from pybuild.exporter.output import Output
from pybuild.model.errors import UsageError, UserError
from pybuild.model.ops import (
    Device,
    ExecOp,
    Mount,
    NetworkMode,
    ScratchSource,
    SecurityMode,
    StepSettings,
    Vertex,
    VertexMeta,
)
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.model.snapshot import LocalTree
from pybuild.model.span import Span

ARM64 = Platform.make("linux", "arm64")
SPAN = Span("Dockerfile", 2, 3)


@pytest.mark.parametrize(
    ("value", "is_forced"),
    [("1", True), ("true", True), ("TRUE", True), ("0", False), ("", False), ("yes", False)],
)
def test_a_build_arg_makes_a_result_of_one_platform_an_index(value: str, is_forced: bool) -> None:
    request = BuildRequest(context=".", build_args={"BUILDKIT_MULTI_PLATFORM": value})
    assert request.multi_platform is is_forced
    assert request.is_index is is_forced


def test_an_index_is_of_several_platforms_or_wished_for_or_has_attestations() -> None:
    assert not DefinitionRequest().multi_platform
    assert not DefinitionRequest(platforms=(LINUX_AMD64,)).multi_platform
    assert DefinitionRequest(platforms=(LINUX_AMD64, ARM64)).multi_platform
    assert DefinitionRequest(as_index=True).multi_platform
    attested = BuildRequest(context=".", attestations=AttestOptions(provenance=Provenance()))
    assert attested.is_index and not attested.multi_platform
    assert not BuildRequest(context=".").is_index


def test_an_output_that_removes_files_has_to_be_allowed() -> None:
    outputs = (
        Output(type="local", dest="keeps"),
        Output(type="local", dest="there", attrs={"mode": "delete"}),
    )
    with pytest.raises(UsageError, match="not in the result from there$") as caught:
        BuildRequest(context=".", outputs=outputs)
    assert caught.value.hints == ("allow it with --allow buildx.local.delete",)
    allow = frozenset(("buildx.local.delete",))
    assert BuildRequest(context=".", outputs=outputs, allow=allow).outputs == outputs
    assert BuildRequest(context=".", outputs=outputs[:1]).outputs == outputs[:1]


def test_a_result_is_cached_where_every_step_was() -> None:
    assert BuildResult().is_fully_cached
    assert BuildResult(steps=(("a", "CACHED"), ("b", "CACHED"))).is_fully_cached
    assert not BuildResult(steps=(("a", "CACHED"), ("b", "DONE"))).is_fully_cached


def _step(
    network: NetworkMode = NetworkMode.DEFAULT,
    security: SecurityMode = SecurityMode.SANDBOX,
    *devices: Device,
) -> Vertex:
    op = ExecOp(
        args=("true",),
        env=(),
        cwd="/",
        mounts=(Mount(target="/", input=0),),
        platform=LINUX_AMD64,
        security=security,
        settings=StepSettings(network=network),
        devices=devices,
    )
    return Vertex(op, (Vertex(ScratchSource()),), VertexMeta(spans=(SPAN,)))


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (_step(NetworkMode.HOST), "network.host"),
        (_step(NetworkMode.DEFAULT, SecurityMode.INSECURE), "security.insecure"),
    ],
)
def test_a_step_with_rights_that_nobody_granted_is_refused(step: Vertex, name: str) -> None:
    others = frozenset(("network.host", "security.insecure")) - {name}
    for allowed in (frozenset[str](), others):
        with pytest.raises(UserError) as caught:
            check_entitlements(step, allowed)
        assert caught.value.message == f"entitlement {name} is not allowed"
        assert caught.value.hints == (f"grant it with --allow {name}",)
        assert caught.value.spans == (SPAN,)
    check_entitlements(step, frozenset((name,)))


def test_steps_without_special_rights_need_none() -> None:
    check_entitlements(_step(), frozenset())
    check_entitlements(_step(NetworkMode.NONE), frozenset())
    check_entitlements(Vertex(ScratchSource()), frozenset())


def test_a_device_that_is_not_there_is_refused_with_its_lines() -> None:
    device = Device(name="vendor.example/class=none", required=True)
    with pytest.raises(UserError, match="vendor.example/class=none") as caught:
        check_entitlements(
            _step(NetworkMode.DEFAULT, SecurityMode.SANDBOX, device), frozenset(("device",))
        )
    assert caught.value.spans == (SPAN,)


def test_the_options_of_a_definition_are_those_of_the_request_and_its_inputs() -> None:
    context = Vertex(ScratchSource())
    steps = StepSettings(network=NetworkMode.NONE)
    request = BuildRequest(
        context=".",
        target="t",
        build_args={"A": "1"},
        labels={"k": "v"},
        platforms=(ARM64,),
        as_index=True,
        no_cache=True,
        no_cache_filter=frozenset(("s",)),
        steps=steps,
    )
    inputs = BuildInputs(
        dockerfile=b"",
        filename="Dockerfile",
        context=context,
        trees={"context": LocalTree("/c", ("x",)), "n": LocalTree("/n")},
        others={"image": "docker-image://alpine"},
    )
    options = lower_options(request, inputs, ARM64, LINUX_AMD64)
    assert (options.target, options.build_args, options.labels) == ("t", {"A": "1"}, {"k": "v"})
    assert (options.target_platform, options.build_platform) == (ARM64, LINUX_AMD64)
    assert (options.platform_explicit, options.multi_platform) == (True, True)
    assert (options.no_cache, options.no_cache_filter) == (True, frozenset(("s",)))
    assert (options.steps, options.context) == (steps, context)
    assert options.named_contexts == {"image": "docker-image://alpine", "n": "n"}
    assert options.local_excludes == {"context": ("x",), "n": ()}
    plain = lower_options(BuildRequest(context="."), inputs, LINUX_AMD64, LINUX_AMD64)
    assert (plain.platform_explicit, plain.multi_platform, plain.no_cache) == (False,) * 3
    assert plain.policies is None


def test_attributes_that_servers_are_sent_are_spelt_as_they_know_them() -> None:
    request = BuildRequest(
        context=".",
        no_cache_filter=frozenset(("b", "a")),
        platforms=(LINUX_AMD64, ARM64),
        fail_on_miss=True,
        pull=True,
        attestations=AttestOptions(provenance=Provenance(full=False, inline_only=True)),
    )
    assert frontend_attrs(request) == {
        "image-resolve-mode": "pull",
        "pybuild.fail-on-miss": "true",
        "platform": "linux/amd64,linux/arm64",
        "multi-platform": "true",
        "no-cache": "a,b",
        "attest:provenance": "mode=min,inline-only=true",
    }
