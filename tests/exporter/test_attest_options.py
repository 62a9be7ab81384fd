"""Values of ``--attest`` and its like [ATT-1, ATT-3, BLD-18]."""

from __future__ import annotations

import pytest

from pybuild.exporter.attest.options import (
    V02,
    AttestOptions,
    Provenance,
    attest_options,
    from_flags,
    options_of,
)
from pybuild.model.errors import UsageError


def test_nothing_is_attested_by_default() -> None:
    assert not from_flags([], "", "")


def test_provenance_is_full_and_of_version_1_unless_told_otherwise() -> None:
    assert from_flags([], "true", "").provenance == Provenance()
    assert from_flags(["type=provenance"], "", "").provenance == Provenance(full=True, version="v1")
    found = from_flags([], "mode=min,version=v0.2,builder-id=https://b.example,inline-only=1", "")
    assert found.provenance == Provenance(
        full=False, version=V02, builder_id="https://b.example", inline_only=True
    )


def test_the_shorthand_wins_over_attest_and_switches_it_off() -> None:
    assert not from_flags(["type=provenance,mode=max"], "false", "")
    assert not from_flags(["type=provenance,disabled=true"], "", "")
    found = from_flags(["type=provenance,mode=max"], "mode=min", "")
    assert found.provenance == Provenance(full=False)


def test_a_scanner_gets_the_other_options_as_they_were_spelt() -> None:
    found = from_flags([], "", "generator=scan/it:1,Extra_ARG=x")
    assert found.sbom is not None
    assert str(found.sbom.generator) == "docker.io/scan/it:1"
    assert found.sbom.parameters == {"Extra_ARG": "x"}


@pytest.mark.parametrize(
    ("attest", "message"),
    [
        ("type=sbom,generator=A B", "failed to parse sbom generator A B"),
        ("type=birth", 'unknown attestation type "birth"'),
        ("mode=max", 'invalid --attest "mode=max": it has no type'),
        ("type=provenance,mode=most", 'invalid mode "most"'),
        ("type=provenance,version=v2", "invalid provenance SLSA version: v2"),
        ("type=provenance,colour=red", 'provenance has no option "colour"'),
        ("type=provenance,filename=../x", "expected a name without directories"),
        ("type=provenance,reproducible=perhaps", 'failed to parse reproducible flag "perhaps"'),
        ("type=provenance,mode", "expected key=value pairs"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(attest: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_flags([attest], "", "")
    assert message in str(caught.value)


def test_attributes_without_a_value_mean_the_defaults() -> None:
    options = options_of("", "attest:provenance")
    assert options == {}
    assert attest_options({"provenance": options or {}}) == AttestOptions(provenance=Provenance())
    assert options_of("disabled=true", "attest:sbom") is None
