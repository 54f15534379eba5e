"""Reads a page as a browser would: its links, its forms, its ids, and what a Content-Security-Policy would refuse."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br", "hr", "rect"}


class PageReader(HTMLParser):
    """What a page has. `refused` are inline scripts, styles and handlers; `unlabelled` are fields without a name for people."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.refused: list[str] = []
        self.unlabelled: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name in ("href", "src", "action") if (value := given.get(name)) is not None]
        if "id" in given:
            self.ids.append(given["id"] or "")
        self.refused += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.refused.append(tag)
        is_field = tag in ("select", "textarea") or (tag == "input" and given.get("type") != "hidden")
        if is_field and "label" not in self.open and "aria-label" not in given:
            self.unlabelled.append(f"{tag} {given.get('name')}")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass
