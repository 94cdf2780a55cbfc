"""What all figures share. Colours are Okabe and Ito's, distinguishable with any colour vision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sda_jax.storage import atomic

POSTERIOR, REFERENCE, OBSERVED, TRUTH = "#0072B2", "#D55E00", "#009E73", "#000000"
SECOND = "#E69F00"


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a figure as PNG, whole or not at all."""
    path = Path(path)
    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, bbox_inches="tight")
    return path


def new_figure(
    rows: int, columns: int, size: tuple[float, float], **kwargs: Any
) -> tuple[Figure, Any]:
    """A figure and its axes `(rows, columns)`."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)
