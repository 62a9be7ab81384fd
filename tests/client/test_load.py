"""An image that a server sent is taken into the store of this machine (``--load``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.builds.result import BuildResult
from pybuild.client.load import take
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from tests.daemon.peers import open_store
from tests.image.images import Blobs, make_image

NAMES = ("docker.io/library/app:1", "r.example/app:2")


@pytest.fixture
def sent(tmp_path: Path) -> tuple[str, Descriptor]:
    """The folder that a server filled, and the image in it."""
    (tmp_path / "tree").mkdir()
    blobs = Blobs(tmp_path / "sent/blobs/sha256")
    return str(tmp_path / "sent"), make_image(blobs, [tmp_path / "tree"])


@pytest.mark.parametrize("names", [NAMES, ()])
def test_an_image_has_its_names_or_none(
    tmp_path: Path, sent: tuple[str, Descriptor], names: tuple[str, ...]
) -> None:
    folder, image = sent
    noted = replace(image, annotations={"of": "the server's index"})
    with open_store(tmp_path / "store") as store:
        take(store, folder, BuildResult(image=noted, names=names))
        assert store.blobs.holds(image)
        assert [store.images.resolve(name) for name in names] == [image] * len(names)
        [entry, *others] = store.images.entries()
        assert entry["digest"] == image.digest and len(others) == max(0, len(names) - 1)
        assert "of" not in entry.get("annotations", {})
    assert list(Path(folder, "blobs/sha256").iterdir()) == []


def test_what_is_there_already_stays_as_it_is(tmp_path: Path, sent: tuple[str, Descriptor]) -> None:
    folder, image = sent
    manifest = Path(folder, "blobs/sha256", image.digest.hex)
    with open_store(tmp_path / "store") as store:
        store.blobs.put(manifest.read_bytes())
        take(store, folder, BuildResult(image=image, names=NAMES))
        assert store.images.resolve(NAMES[0]) == image
    assert manifest.exists()


def test_an_image_that_did_not_come_is_an_error(
    tmp_path: Path, sent: tuple[str, Descriptor]
) -> None:
    folder, image = sent
    with open_store(tmp_path / "store") as store:
        with pytest.raises(EnvironmentFault, match="^the server sent no image$"):
            take(store, folder, BuildResult(image_id=Digest.of(b"x")))
        for blob in Path(folder, "blobs/sha256").iterdir():
            if blob.name != image.digest.hex:
                blob.unlink()
        with pytest.raises(EnvironmentFault):
            take(store, folder, BuildResult(image=image, names=NAMES))
        assert store.images.resolve(NAMES[0]) is None
