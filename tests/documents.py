"""The documents of the project, and what stands in them: code blocks, commands, tables, anchors."""

import re
import shlex
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "quiz_bundle"
README = ROOT / "README.md"
DOCS = BUNDLE / "docs"
CARD, CONVENTIONS, BENCHMARK, INFERENCE, TRAINING, COHORTS, SLICER, RESEARCHER = (
    DOCS / f"{name}.md"
    for name in ("README", "conventions", "benchmark", "inference", "training", "cohorts", "slicer", "researcher")
)
DOCUMENTS = sorted(p for p in [*ROOT.glob("*.md"), *BUNDLE.rglob("*.md")] if ".venv" not in p.parts)


def name_of(path):
    return str(path.relative_to(ROOT))


def text_of(path):
    return path.read_text(encoding="utf-8")


def flat(path):
    """A document's words in one line."""
    return " ".join(text_of(path).split())


def blocks(path, language):
    """Contents of a document's fenced code blocks in one language."""
    return [textwrap.dedent(b) for b in re.findall(rf"^ *```{language}\n(.*?)^ *```$", text_of(path), re.S | re.M)]


def commands(paths=DOCUMENTS):
    """Every command of the documents as words, without its comment and its environment variables."""
    found = []
    for path in paths:
        for block in blocks(path, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z]+=\S*", words[0]):
                    words = words[1:]
                if words:
                    found.append(words)
    return found


def tables(path):
    """The rows of a document's tables, each a list of cells."""
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text_of(path).splitlines()
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line)
    ]


def anchors(path):
    """The anchors that a document's headings make."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(path), flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}
