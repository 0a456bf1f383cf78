"""A document of headings, paragraphs, tables and lists: as Markdown for files, as plain data for a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Block = dict[str, Any]
CONTENTS_DEPTH = 2


@dataclass
class Document:
    """Blocks in their order. Text may hold words in backticks; headings number themselves."""

    title: str = ""
    blocks: list[Block] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)
    _annexes: bool = False

    def heading(self, level: int, text: str) -> None:
        """A heading of level 1 to 4 with the next number of its level."""
        self._numbers = [*self._numbers[:level], *[0] * (level - len(self._numbers))]
        self._numbers[level - 1] += 1
        first = chr(ord("A") + self._numbers[0] - 1) if self._annexes else str(self._numbers[0])
        number = ".".join([first, *map(str, self._numbers[1:])])
        label = f"Annex {number}" if self._annexes and level == 1 else number
        self.blocks.append(
            {"kind": "heading", "level": level, "number": label, "text": text, "id": f"section-{number}"}
        )

    def begin_annexes(self) -> None:
        """From here on headings of the first level are annexes."""
        self._annexes, self._numbers = True, []

    def text(self, *paragraphs: str) -> None:
        """Paragraphs; breaks within one do not count."""
        self.blocks += [{"kind": "text", "text": " ".join(one.split())} for one in paragraphs]

    def table(self, caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table with its caption."""
        cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
        assert all(len(row) == len(head) for row in cells), caption
        self.blocks.append({"kind": "table", "caption": caption, "head": list(head), "rows": cells})

    def items(self, *entries: str) -> None:
        """A list."""
        self.blocks.append({"kind": "list", "items": [" ".join(entry.split()) for entry in entries]})

    def contents(self) -> None:
        """The place of the table of contents."""
        self.blocks.append({"kind": "contents"})

    def data(self) -> dict[str, Any]:
        """Title, blocks and contents as values that JSON can hold."""
        return {"title": self.title, "blocks": self.blocks, "contents": self._contents()}

    def markdown(self) -> str:
        """The whole in Markdown, ending with a line break."""
        parts = [f"# {self.title}"]
        for block in self.blocks:
            parts += _markdown(block) if block["kind"] != "contents" else [self._listed()]
        return "\n\n".join(parts) + "\n"

    def _contents(self) -> list[Block]:
        return [b for b in self.blocks if b["kind"] == "heading" and b["level"] <= CONTENTS_DEPTH]

    def _listed(self) -> str:
        lines = [f"{'  ' * (one['level'] - 1)}- {one['number']} {one['text']}" for one in self._contents()]
        return "\n".join(lines)


def _markdown(block: Block) -> list[str]:
    if block["kind"] == "heading":
        return [f"{'#' * (block['level'] + 1)} {block['number']} {block['text']}"]
    if block["kind"] == "text":
        return [block["text"]]
    if block["kind"] == "list":
        return ["\n".join(f"- {entry}" for entry in block["items"])]
    lines = [block["head"], ["---"] * len(block["head"]), *block["rows"]]
    return [f"*{block['caption']}*", "\n".join(_row(line) for line in lines)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
