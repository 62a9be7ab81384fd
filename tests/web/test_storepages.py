"""The pages of the store: images with their steps, and containers; whatever they are called."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.containers import Containers
from pybuild.model.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import canonical_json
from tests.history.test_page import read
from tests.web.sites import PageSite, on_site

CONFIG: Mapping[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "created": "2026-01-02T00:00:00Z",
    "config": {"Labels": {"team": "shop"}, "Cmd": ["serve", "two words"], "User": "nobody"},
    "history": [
        {"created": "2026-01-01T00:00:00Z", "created_by": "COPY . /"},
        {"created": "2026-01-02T00:00:00Z", "created_by": "CMD serve", "empty_layer": True, "comment": "ours"},
    ],
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
}  # fmt: skip
CONTAINER = ContainerConfig(
    id="ab" * 32, name="web", image="shop:1", manifest="", image_id="", deltas=(), cmd=("serve",), network="none"
)  # fmt: skip


def put(store: Store, media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, store.blobs.put(data), len(data))


def image(store: Store, config: object = CONFIG) -> Descriptor:
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": put(store, OCI_CONFIG, canonical_json(config)).to_json(),
        "layers": [put(store, OCI_LAYER_GZIP, gzip.compress(bytes(1000))).to_json()],
    }
    return put(store, OCI_MANIFEST, canonical_json(manifest))


def test_images_are_listed_and_each_has_its_steps(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        assert "There is no image here yet." in (await site.ask("/images")).body
        made = image(site.store)
        site.store.images.tag("docker.io/library/shop:1", made)
        page = read((await site.ask("/images")).body)
        links = [attrs.get("href") for tag, attrs in page.elements if tag == "a"]
        assert links[-1] == f"/images/{made.digest.hex}"
        assert "shop" in page.text
        page = read((await site.ask(f"/images/{made.digest.hex}")).body)
        for words in (
            "shop:1",
            "linux/amd64",
            "team=shop",
            '["serve", "two words"]',
            "nobody",
            "COPY . /",
            "CMD serve",
            "1kB",
            "ours",
        ):
            assert words in page.text, words
        assert page.text.index("CMD serve") < page.text.index("COPY . /")

    on_site(tmp_path, work)


def test_an_image_that_is_not_whole_is_shown_as_far_as_it_is_here(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        bare = put(site.store, OCI_MANIFEST, canonical_json({"schemaVersion": 2}))
        index = put(site.store, OCI_INDEX, canonical_json({"schemaVersion": 2, "manifests": []}))
        site.store.images.tag("docker.io/library/many:1", index)
        answer = await site.ask(f"/images/{index.digest.hex}")
        assert answer.status == 200 and "many:1" in answer.body
        assert (await site.ask(f"/images/{bare.digest.hex}")).status == 404
        assert (await site.ask("/images/" + "0" * 64)).status == 404
        assert (await site.ask("/images/shop")).status == 404

    on_site(tmp_path, work)


def test_containers_are_listed(tmp_path: Path) -> None:
    async def work(site: PageSite) -> None:
        assert "There is no container here." in (await site.ask("/containers")).body
        Containers(site.store).create(CONTAINER)
        page = read((await site.ask("/containers")).body)
        for words in ("web", "shop:1", "Created", "serve"):
            assert words in page.text, words

    on_site(tmp_path, work)


ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><iframe src='//evil.example'></iframe>",
    "\x1b[31m<svg onload=alert(1)>",
)
PLACES = ("label", "cmd", "user", "created", "by", "comment", "os", "image", "args")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_of_an_image_or_a_container_becomes_markup(
    tmp_path: Path, attack: str, place: str
) -> None:
    def config(text: str) -> Mapping[str, Any]:
        step = {
            "created_by": text if place == "by" else "RUN",
            "comment": text if place == "comment" else "c",
        }
        settings = {
            "Labels": {text if place == "label" else "a": text if place == "label" else "b"},
            "Cmd": [text if place == "cmd" else "c"],
            "User": text if place == "user" else "u",
        }
        return {
            **CONFIG,
            "os": text if place == "os" else "linux",
            "created": text if place == "created" else "2026-01-02T00:00:00Z",
            "config": settings,
            "history": [step],
        }

    async def shapes(
        site: PageSite, text: str, number: int
    ) -> list[list[tuple[str, tuple[str, ...]]]]:
        made = image(site.store, config(text))
        site.store.images.tag("docker.io/library/shop:1", made)
        id = f"{number}b" * 32
        one = CONTAINER._replace(
            id=id, name=f"c{number}", image=text if place == "image" else "i", cmd=(text if place == "args" else "a",)
        )  # fmt: skip
        containers = Containers(site.store)
        containers.create(one)
        targets = ("/images", f"/images/{made.digest.hex}", "/containers")
        answers = [await site.ask(target) for target in targets]
        containers.remove(containers.find(id))
        site.store.images.untag("docker.io/library/shop:1")
        assert {answer.status for answer in answers} == {200}
        return [[(tag, tuple(attrs)) for tag, attrs in read(one.body).elements] for one in answers]

    async def work(site: PageSite) -> None:
        assert await shapes(site, attack, 1) == await shapes(site, "plain", 2)

    on_site(tmp_path, work)
