"""A sample of the fuzzer, which would notice when one of its targets no longer works."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.image.manifest import parse_manifest
from pybuild.model import jsontext
from pybuild.model.errors import EnvironmentFault
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.manifests import media_type_of
from tests.image.fuzz import run
from tests.image.trees import root_only


@root_only
@pytest.mark.slow
def test_sample_finds_nothing_and_reaches_both_good_and_bad_ends(tmp_path: Path) -> None:
    tally = run(1500, seed=3, top=tmp_path)
    assert not tally.findings, "\n".join(tally.findings)
    outcomes = set(tally.outcomes)
    assert {"layer: fine", "layer: needs lowers", "layer: damaged gzip stream"} <= outcomes
    assert "layer: layer has a name that leaves its directory" in outcomes
    assert any(outcome.startswith("document: +") for outcome in outcomes)
    assert len(outcomes) > 30


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    """It would break whoever prints the error, or sends it to a client."""
    assert jsontext.loads(b'"\\ud83d\\ude00"') == "\U0001f600"
    for data in (b'{"mediaType": "\\ud800"}', b'{"\\uDFFF": 1}'):
        with pytest.raises(EnvironmentFault, match="is not valid JSON"):
            parse_manifest(data)
        with pytest.raises(ContentFault, match="is not a JSON object"):
            media_type_of("n", "", data)
