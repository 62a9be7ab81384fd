"""A layer that came from elsewhere is believed when the client's own place gives its bytes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.records.layers import keep_delta_made_into, keep_layer
from pybuild.cache.store import Store
from pybuild.engine.layerproof import SingleBlob, diff_id_of, needs_proof, place_of, prove
from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.layerfacts import LayerFacts
from tests.clocks import FakeClock

TAR = b"\0" * 1024
DIFF_ID = Digest.of(TAR)
DATA = gzip.compress(TAR, mtime=0)
LAYER = Descriptor(OCI_LAYER_GZIP, Digest.of(DATA), len(DATA))
HERE = "docker.io/library/base"


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "s", FakeClock()) as opened:
        yield opened


@pytest.mark.parametrize(
    ("reference", "layout", "place"),
    [
        ("docker.io/library/base:1", "", HERE),
        ("base", "", HERE),
        ("docker.io/library/base:1", "/layout", ""),
        ("", "", ""),
    ],
)
def test_a_repository_vouches_for_a_layer_and_a_layout_for_none(
    reference: str, layout: str, place: str
) -> None:
    assert place_of(reference, layout) == place


@pytest.mark.parametrize(
    ("known", "place", "needs"),
    [
        (LayerFacts(reference="base:2"), HERE, False),
        (LayerFacts(reference="other"), HERE, True),
        (LayerFacts(layout="/l"), HERE, True),
        (LayerFacts(layout="/l"), "", True),
        (LayerFacts(reference="base"), "", True),
        (None, HERE, False),
        (None, "", False),
    ],
)
def test_a_layer_of_another_place_needs_proof(
    store: Store, known: LayerFacts | None, place: str, needs: bool
) -> None:
    if known is not None:
        keep_layer(store.records, "sha256-" + DIFF_ID.hex, known)
    assert needs_proof(store, DIFF_ID, place) is needs


def test_a_layer_that_was_made_here_needs_proof_from_everybody(store: Store) -> None:
    keep_layer(store.records, "sha256-" + DIFF_ID.hex, LayerFacts(reference="base"))
    keep_delta_made_into(store.records, DIFF_ID, "x")
    assert needs_proof(store, DIFF_ID, HERE)


def proven(store: Store, data: bytes, diff_id: Digest = DIFF_ID) -> None:
    async def bring(layer: Descriptor, aside: SingleBlob) -> None:
        assert not aside.has(layer.digest)
        with aside.writer(layer.digest, layer.size) as out:
            out.write(data[:5])
            out.write(data[5:])
            out.commit()

    try:
        asyncio.run(prove(store, LAYER, diff_id, bring))
    finally:
        assert not list(Path(store.root).rglob("*proof*"))
        assert not store.blobs.has(LAYER.digest)


def test_the_bytes_themselves_are_proof_and_nothing_of_them_stays(store: Store) -> None:
    proven(store, DATA)


def test_bytes_of_another_digest_or_another_tar_are_none(store: Store) -> None:
    other = gzip.compress(b"\0" * 2048, mtime=0)
    with pytest.raises(UserError, match=f"^blob {LAYER.digest}: got {Digest.of(other)}$"):
        proven(store, other)
    wrong = Digest.of(b"wrong")
    text = f"^layer {LAYER.digest}: its diffID is {DIFF_ID}, not {wrong}$"
    with pytest.raises(UserError, match=text):
        proven(store, DATA, wrong)


def test_who_does_not_say_what_comes_is_not_contradicted(tmp_path: Path) -> None:
    blob = SingleBlob(str(tmp_path / "blob"))
    with blob.writer(None, None) as out:
        out.write(DATA)
        out.commit()
    assert diff_id_of(blob.path) == DIFF_ID
