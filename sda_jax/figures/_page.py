"""One HTML page that needs nothing beside it: text, tables and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sda_jax.runtime._files import write_text

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 60rem; margin: 0 auto; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid #ccc; }
nav a { margin-right: 1rem; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
         border-bottom: 1px solid #e2e2e2; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption, .note { color: #444; font-size: .92rem; }
pre { background: #f5f5f5; padding: .75rem; overflow-x: auto; font-size: .85rem; }
"""


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table under a row of headings; what begins like a number is set like one."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = ""
    for row in rows:
        cells = (
            f"<td{' class=number' if c[:1] in tuple('+-0123456789') else ''}>{escape(c)}</td>"
            for c in row
        )
        body += f"<tr>{''.join(cells)}</tr>"
    filled = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{filled}</div>'


def picture(data: bytes, kind: str, caption: str) -> str:
    """An image of the page's own; `kind` is "png" or "gif"."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    said = escape(caption, quote=True)
    return f'<figure><img alt="{said}" src="{source}"><figcaption>{said}</figcaption></figure>'


def drawn(figure: Figure, caption: str) -> str:
    """A figure."""
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", dpi=110, bbox_inches="tight")
    return picture(out.getvalue(), "png", caption)


def code(text: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(text)}</pre>"


def write_page(path: str | Path, title: str, sections: Sequence[tuple[str, str]]) -> Path:
    """Writes a page.

    Args:
        path: The file.
        title: Its heading.
        sections: Heading and HTML of each.
    """
    links = "".join(f'<a href="#s{i}">{escape(h)}</a>' for i, (h, _) in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{escape(heading)}</h2>{content}</section>'
        for i, (heading, content) in enumerate(sections)
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1><nav>{links}</nav>"
        f"<main>{body}</main></body></html>\n"
    )
    write_text(path, page)
    return Path(path)
