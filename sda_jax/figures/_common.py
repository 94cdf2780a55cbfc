"""What all figures share. Colours are Okabe and Ito's, distinguishable with any colour vision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from sda_jax.runtime._files import atomic

POSTERIOR, REFERENCE, OBSERVED, TRUTH = "#0072B2", "#D55E00", "#009E73", "#000000"
SECOND = "#E69F00"


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a figure as PNG, whole or not at all."""
    path = Path(path)
    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, bbox_inches="tight")
    return path


def write_gif(
    target: Any, figure: Figure, shown: Sequence[tuple[Any, np.ndarray]], titles: Sequence[str]
) -> None:
    """Writes an animation to a path or a file, a quarter of a second for each of its frames.

    Args:
        target: Path or file.
        figure: The first frame, without a title; it is laid out once, for all of them.
        shown: The figure's images, and what each shows in every frame.
        titles: Of the frames.
    """
    canvas, title, frames = FigureCanvasAgg(figure), figure.suptitle(titles[0], fontsize=9), []
    canvas.draw()
    figure.set_layout_engine("none")
    for i, said in enumerate(titles):
        title.set_text(said)
        for image, values in shown:
            image.set_array(values[i])
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    frames[0].save(
        target,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=250,
        loop=0,
    )


def new_figure(
    rows: int, columns: int, size: tuple[float, float], **kwargs: Any
) -> tuple[Figure, Any]:
    """A figure and its axes `(rows, columns)`."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)
