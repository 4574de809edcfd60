"""What is known of each released dataset, read from `registry.yaml` and checked once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal

from segstream.shards.errors import DataError
from segstream.shards.schema import parse, read_yaml

Role = Literal["train", "test", "extra"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file that the publisher offers."""

    name: str
    """Its name; one that lies inside another archive is named by its path below the raw root."""
    size: str | None = None
    """About how large, for people."""
    bytes: int | None = None
    digest: str | None = None
    """`md5:...` or `sha256:...`, where it is known."""
    url: str | None = None
    """Only where it may be had without registration."""
    inside: str | None = None
    """The archive that brings this one."""
    unpack: Mapping[str, str] = field(default_factory=dict)
    """Prefix of its members' names -> what it becomes below the raw root; members of no prefix are not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A tell-tale of a wrong version, a wrong place, or an unfinished unpacking."""

    has: tuple[str, ...]
    """Paths below the raw root that all exist; `*` stands for a part of a name."""
    lacks: tuple[str, ...] = ()
    """Paths of which none exists."""
    says: str
    """What it means and what to do."""
    wrong: bool = True
    """False: worth knowing, but the dataset can be converted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the registry holds of a released dataset."""

    title: str
    role: Role
    taxonomy: str | None = None
    """Of its native labels; None: the dataset's own name."""
    labels: bool = True
    """False: only images are published."""
    splits: Mapping[str, int | None]
    """Images per split of the complete release, as it is used; None where no list that can be had says so."""
    total: int | None = None
    """Images of all splits together, where only that is known."""
    licence: str
    home: str
    """Where a person gets it."""
    layout: Mapping[str, str]
    """Path pattern below the raw root -> what lies there."""
    archives: tuple[Archive, ...] = ()
    more: str | None = None
    """What more images than the release has would mean."""
    signs: tuple[Sign, ...] = ()

    def __post_init__(self) -> None:
        names = {archive.name for archive in self.archives}
        for archive in self.archives:
            if archive.inside is not None and archive.inside not in names:
                raise DataError(f"archive {archive.name} lies inside {archive.inside}, which is not listed")
            if (archive.url or archive.inside) and not archive.unpack:
                raise DataError(f"archive {archive.name} can be had but `unpack` does not say where its members go")

    @property
    def downloads(self) -> bool:
        """Everything can be had without registration."""
        return bool(self.archives) and all(archive.url or archive.inside for archive in self.archives)


@functools.cache
def registry() -> Mapping[str, Facts]:
    """The facts of every released dataset, by name.

    Raises:
        DataError: the file in the package is damaged.
    """
    with resources.as_file(resources.files("segstream.shards.datasets").joinpath("registry.yaml")) as path:
        return {name: parse(Facts, facts, at=f"{path.name}: {name}") for name, facts in read_yaml(path).items()}
