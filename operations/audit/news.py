"""What an audit finds that operations/audit/advisories.yaml does not say."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from operations.audit.advisories import FILE, Advisory
from operations.audit.lock_audit import Vulnerability
from operations.tell.text import code

_NEW, _CHANGED, _OVER = "New advisories", "Another version is pinned", "No longer reported"


@dataclass(frozen=True)
class News:
    """Something that a person has to look at; ``heading`` and ``text`` in Markdown."""

    heading: str
    subject: str
    text: str

    @property
    def mark(self) -> str:
        """A digest of heading and subject, for a mark in a text that everybody can read."""
        return hashlib.sha256(f"{self.heading}\n{self.subject}".encode()).hexdigest()[:12]


def news(known: Sequence[Advisory], reported: Sequence[Vulnerability]) -> list[News]:
    """All that differs between the known advisories and those that an audit of all locks reported."""
    return [*_new(known, reported), *_changed(known, reported), *_over(known, reported)]


def _new(known: Sequence[Advisory], reported: Sequence[Vulnerability]) -> Iterator[News]:
    for each in reported:
        if not any(_same(advisory, each) for advisory in known):
            names = " ".join(each.ids)
            remedy = (
                f"corrected in {each.fixed[0]}: `make lock UPGRADE=1`" if each.fixed else "no version has a correction"
            )
            text = (
                f"{each.lock}: {each.package} {each.version}: {names}: {code(each.summary)} ({remedy}; if the pin "
                f"cannot move, add the advisory to `{FILE}` with the reason)"
            )
            yield News(_NEW, f"{each.package} {each.version} {each.ids[0]}", text)


def _changed(known: Sequence[Advisory], reported: Sequence[Vulnerability]) -> Iterator[News]:
    for advisory in known:
        versions = {each.version for each in reported if _same(advisory, each)} - {advisory.version}
        for version in sorted(versions):
            text = (
                f"{advisory.package} {version} still has {advisory.id}, which was looked at for {advisory.version}: "
                f"look again, and write {version} into `{FILE}`"
            )
            yield News(_CHANGED, f"{advisory.package} {version} {advisory.id}", text)


def _over(known: Sequence[Advisory], reported: Sequence[Vulnerability]) -> Iterator[News]:
    for advisory in known:
        if not any(_same(advisory, each) for each in reported):
            text = f"{advisory.package}: {advisory.id} concerns no pinned version: remove it from `{FILE}`"
            yield News(_OVER, f"{advisory.package} {advisory.id}", text)


def _same(advisory: Advisory, vulnerability: Vulnerability) -> bool:
    return advisory.package == vulnerability.package and not advisory.ids.isdisjoint(vulnerability.ids)
