"""Secrets are leaks in a delta as in the layer that is made of it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, cast

from pybuild.image.layer.layertar import layer_job
from pybuild.image.layer.orders import BlobOrder
from pybuild.image.layer.secretrules import LONGEST, Leak
from pybuild.image.layer.secretsearch import blob_job, delta_job, search
from tests.image.test_secretrules import letters, pem

KEY = f"ghp_{letters(36)}"


class Call:
    """A call of a worker, without one."""

    fds = ()

    def progress(self, _: int) -> None:
        pass


CALL = cast(Any, Call())


def tree(root: Path) -> Path:
    for name, text in {
        "app/.env": "A=1\nTOKEN=abc\n",
        "app/deep/er/config.yaml": f"\n\nkey: {KEY}\n",
        "app/readme": "nothing",
        "root/.ssh/id_rsa": pem(),
        "zeros": "\0" * 100_000 + KEY,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "link").symlink_to("app/.env")
    os.mkfifo(root / "pipe")
    return root


FOUND = {
    Leak("app/.env", 2, "value of TOKEN"),
    Leak("app/deep/er/config.yaml", 3, "GitHub token"),
    Leak("root/.ssh/id_rsa", 1, "private key"),
}


def test_a_delta_and_its_layer_hold_the_same(tmp_path: Path) -> None:
    delta = tree(tmp_path / "delta")
    assert set(delta_job(CALL, [str(delta)])) == FOUND
    for compression in ("gzip", "zstd", "uncompressed", "estargz"):
        out = str(tmp_path / compression)
        layer_job(CALL, str(delta), BlobOrder(out, compression))
        assert set(blob_job(CALL, out)) == FOUND


def test_all_directories_of_a_delta_are_searched(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tmp_path / "two"
    two.mkdir()
    (two / "key").write_text(pem())
    leaks = delta_job(CALL, [str(one), str(two)])
    assert set(leaks) == {*FOUND, Leak("key", 1, "private key")}


def test_a_layer_full_of_secrets_tells_of_some(tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"{number:03}.key").write_text(pem())
    assert len(delta_job(CALL, [str(tmp_path)])) == 100


def test_names_in_archives_mean_what_unpacking_makes_of_them(tmp_path: Path) -> None:
    import io
    import tarfile

    path = tmp_path / "layer.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("./app/.env", "/srv/../root/.netrc"):
            data = b"machine a password b\nTOKEN=c\n"
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert [leak.path for leak in blob_job(CALL, str(path))] == ["app/.env", "root/.netrc"]


def test_a_secret_across_two_windows_is_found_once_with_its_line() -> None:
    window = 4 << 20
    for before in (window - 20, window - LONGEST, window + 5, 2 * window - LONGEST - 7):
        text = (b"#" * 99 + b"\n") * (before // 100)
        text = text.ljust(before, b"\n") + b"\n" + KEY.encode() + b"\n" + b"#" * window
        pieces = iter([text[at : at + 300_000] for at in range(0, len(text), 300_000)])
        leaks = list(search(b"big.txt", partial(next, pieces, b"")))
        line = text[: text.index(KEY.encode())].count(b"\n") + 1
        assert leaks == [Leak("big.txt", line, "GitHub token")]
