"""Questions of a reader of definitions that must be answered before it can go on."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.ops import GitSource, HttpSource, ImageSource, OciLayoutSource
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageQuery:
    """A query for the manifest of an image for a platform; the answer is an `ImageSource`.

    Attributes:
        mode: ``default``, ``pull`` (ask the registry) or ``local`` (rather the image here).
        checksum: the digest that the reference must turn out to have.
        layers: the number of layers to take; 0 for all of them.
    """

    reference: Reference
    platform: Platform
    mode: str = "default"
    checksum: Digest | None = None
    layers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutQuery:
    """The same of an OCI layout in the client's hands, answered by an `OciLayoutSource`.

    Attributes:
        store: its name in the session, ``oci:<store>`` to the content service; often empty, then
            the reference's repository is the name.
        session: empty for the request's own.
    """

    reference: Reference
    platform: Platform
    store: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadQuery:
    """A query for the client's standard input, as the file *filename* [remote-api 4.1].

    Answered by an `HttpSource` whose content is here already.
    """

    id: str
    filename: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobQuery:
    """A query for one blob of a repository, or of a layout in the client's hands, as a file.

    Answered by an `HttpSource` of that *url*, whose content is here already.

    Attributes:
        url: with the name and the digest that *reference* has.
        store: as of `LayoutQuery`, for a layout.
    """

    url: str
    reference: Reference
    is_layout: bool
    store: str = ""
    filename: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0

    def source(self) -> HttpSource:
        """Return the answer."""
        return HttpSource(
            url=self.url,
            checksum=self.reference.digest,
            filename=self.filename,
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleQuery:
    """A query for the git bundle that *source* comes from; the answer is *source*, once *blob* is here."""

    source: GitSource
    blob: BlobQuery


Query = ImageQuery | LayoutQuery | UploadQuery | BlobQuery | BundleQuery
Answer = ImageSource | OciLayoutSource | HttpSource | GitSource
Answers = Mapping[Query, Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalQuery:
    """A directory of the client that a definition reads.

    Attributes:
        dir_name: the client's name for it.
        session: empty for the request's own.
        include, exclude, follow: the part of it that is transferred [remote-api 5.1].
        shared_key: the same text means the same directory, so that a former copy helps.
        compare: whether equal times and sizes mean that a file did not change.
        metadata_only: no contents, but of paths that *metadata_except* matches.
    """

    dir_name: str
    session: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    shared_key: str = ""
    compare: bool = True
    metadata_only: bool = False
    metadata_except: tuple[str, ...] = ()
