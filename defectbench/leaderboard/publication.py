"""What a site offers to programs besides its values: an index and archives of the entries, and a feed of new and changed ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from defectbench.base.text import one_line
from defectbench.entries.published import INDEX_FILE, index_text, publish
from defectbench.entries.versions import created

if TYPE_CHECKING:
    from defectbench.leaderboard.groups import Ranked
    from defectbench.leaderboard.view import ModelPage, Site

FEED_FILE = "feed.xml"
FEED_LENGTH = 50
"""Entries in the feed, newest first."""

_ATOM = "http://www.w3.org/2005/Atom"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def published_files(site: Site, entries: Sequence[Ranked], address: str | None = None) -> Iterator[tuple[str, bytes | str]]:
    """(name, content) of ``entries.json``, of an archive per entry, and of ``feed.xml``.

    Args:
        site: whose pages are linked.
        entries: in the order of the site's model pages.
        address: of the site on the web, for links of the feed; without it they are relative.

    Raises:
        DefectbenchError: a file of an entry cannot be read.
    """
    index = []
    for page, one in zip(site.models, entries, strict=True):
        if (found := publish(one.folder, one.entry, Path(page.page).stem)) is not None:
            line, archive = found
            index.append(line)
            yield line.archive, archive
    yield INDEX_FILE, index_text(index)
    yield FEED_FILE, feed(site.models, entries, address)


def feed(pages: Sequence[ModelPage], entries: Sequence[Ranked], address: str | None = None) -> str:
    """An Atom feed (RFC 4287). An entry that was made again keeps its id and gets a later date, so that readers show it as changed."""
    base = "" if address is None else address.rstrip("/") + "/"
    dated = sorted(zip(pages, entries, strict=True), key=lambda pair: (_date(pair[1]), pair[0].page), reverse=True)[:FEED_LENGTH]
    ElementTree.register_namespace("", _ATOM)
    root = ElementTree.Element(f"{{{_ATOM}}}feed")
    _text(root, "title", "defectbench leaderboard")
    _text(root, "id", _id("feed", base))
    _text(root, "updated", max((_date(one) for _, one in dated), default=_EPOCH).isoformat())
    _text(ElementTree.SubElement(root, f"{{{_ATOM}}}author"), "name", "defectbench")
    _link(root, "self", f"{base}{FEED_FILE}")
    _link(root, "alternate", f"{base}index.html")
    for page, one in dated:
        item = ElementTree.SubElement(root, f"{{{_ATOM}}}entry")
        score = "no overall score" if one.score.overall is None else f"score {one.score.overall:.2f}"
        data = one.entry.dataset
        _text(item, "title", f"{page.name} on {data.id} ({data.level_of_theory}, {one.entry.selection.suite} suite): {score}")
        _text(item, "id", _id("entry", page.page))
        _text(item, "updated", _date(one).isoformat())
        _link(item, "alternate", f"{base}{page.page}")
        rank = "" if page.row.rank is None else f" Rank {page.row.rank}."
        changes = page.versions[-1].changes if len(page.versions) > 1 and page.versions[-1].page == page.page else ()
        changed = f" Changed: {'; '.join(changes)}." if changes else ""
        _text(item, "summary", f"Response to charge: {one.entry.certificate['charge_class']}.{rank}{changed}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _date(one: Ranked) -> datetime:
    try:
        return created(one.entry)
    except ValueError:
        return _EPOCH


def _id(kind: str, name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"defectbench/{kind}/{name}").urn


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}").text = one_line(text)


def _link(parent: ElementTree.Element, relation: str, address: str) -> None:
    ElementTree.SubElement(parent, f"{{{_ATOM}}}link", {"rel": relation, "href": address})
