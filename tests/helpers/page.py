"""Reads report.html as a browser would."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

MOST_BYTES = 5_000_000


class Page(HTMLParser):
    """Headings, alternative texts and specifications of a page, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: list[str | None] = []
        self.loaded: list[str] = []
        self.scripts = 0
        self.data: dict[str, str] = {}
        self.words = ""
        self._inside: list[str] = []
        self._id = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._inside.append(tag)
        self._id = given.get("id") or ""
        self.scripts += tag == "script"
        if tag == "img":
            self.images.append(given.get("alt"))
        self.loaded += [given[name] for name in ("src", "href") if name in given and given[name][0] != "#"]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside[-1:] == ["script"]:
            self.data[self._id] = self.data.get(self._id, "") + data
        elif "style" not in self._inside:
            self.words += data
            if self._inside and self._inside[-1] in ("h1", "h2", "h3"):
                self.headings.append(data.strip())

    @property
    def specs(self):
        return json.loads(self.data["specs"])


def page_of(folder: Path) -> Page:
    text = (folder / "report.html").read_text()
    assert len(text.encode()) < MOST_BYTES
    page = Page(text)
    assert all(address.startswith("data:") for address in page.loaded)  # nothing comes from elsewhere
    assert all(page.images) or not page.images  # each has its alternative text
    return page
