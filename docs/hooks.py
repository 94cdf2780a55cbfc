"""Brings pages that lie outside `docs` into the built site: the benchmarks' records, the
contributing guide and the changelog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")


def outside() -> list[Path]:
    """Files to bring in."""
    results = ROOT / "benchmarks" / "results"
    pages = [ROOT / name for name in PAGES]
    return [*pages, *sorted(results.glob("*.md")), *sorted(results.glob("*.png"))]


def on_files(files: Files, config: Any) -> Files:
    """Adds them at the same places."""
    for path in outside():
        place = path.relative_to(ROOT).as_posix()
        level = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, place, abs_src_path=str(path), inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Makes links between `docs` and what lies outside links within the site."""
    if page.file.src_uri in PAGES:
        return markdown.replace("](docs/", "](")
    if page.file.src_uri.startswith("benchmarks/"):
        return markdown
    up = "../" * page.file.src_uri.count("/")
    for place in ("benchmarks/results/", *PAGES):
        markdown = markdown.replace(f"]({up}../{place}", f"]({up}{place}")
    return markdown
