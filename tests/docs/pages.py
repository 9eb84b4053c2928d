"""Reads the Markdown pages of the repository: links, headings and fenced blocks."""

import pathlib
import re
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "config/**/*.md", "tests/*.md", "tests/data/**/*.md", "tests/iam-simulate/*.md")
    for path in ROOT.glob(pattern)
)

LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


@dataclass
class Block:
    """A fenced block: its language, the rest of its info string, its text, and its first line's number."""

    language: str
    info: str
    text: str
    line: int

    @property
    def kind(self):
        """`run`, `start`, `stop`, `example`, or nothing."""
        return re.match(r"[a-z]*", self.info).group()

    @property
    def reason(self):
        """What stands behind the colon."""
        return self.info.partition(":")[2].strip()


def blocks(page):
    """The fenced blocks of a page, in order."""
    found, fence, indent = [], None, 0
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if fence is None:
            opened = re.match(r"( *)(```+)(\S*) ?(.*)", line)
            if opened:
                indent, fence = len(opened[1]), opened[2]
                found.append(Block(opened[3], opened[4].strip(), "", number))
        elif line.strip() == fence:
            fence = None
        else:
            found[-1].text += line[min(indent, len(line) - len(line.lstrip())) :] + "\n"
    assert fence is None, f"{page}: a fence is not closed"
    return found


def prose(page):
    """The page without its fenced blocks and without code in backticks."""
    text = (ROOT / page).read_text()
    text = re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def links(page):
    """The targets of the page's links."""
    text = (ROOT / page).read_text()
    text = re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return LINK.findall(text)


def anchors(page):
    """The anchors of the page's headings, as GitHub makes them."""
    text = re.sub(r"^( *)```.*?^ *```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    found, seen = set(), {}
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found
