"""Draws what the other commands left in the output folder."""

from __future__ import annotations

from pathlib import Path

from sda_jax import figures as draw
from sda_jax.cli.common import Arguments, run
from sda_jax.core._errors import StorageError


def figures(arguments: Arguments) -> None:
    """Writes PNG files below `figures/`."""
    from sda_jax.experiment._comparison import RECORD
    from sda_jax.prior._loop import METRICS
    from sda_jax.runtime._records import read_records

    output = arguments.options.output
    paths: list[Path] = []
    metrics = read_records(output / "train" / "metrics.jsonl", METRICS)
    if metrics:
        paths.append(draw.save(draw.training_curves(metrics), output / "figures" / "training.png"))
    records = read_records(output / "evaluation" / "records.jsonl", RECORD)
    if records:
        figure = draw.accuracy_curves(records)
        paths.append(draw.save(figure, output / "figures" / "accuracy.png"))
    for case in arguments.config.cases:
        paths += _case_figures(arguments, case)
    if not paths:
        raise StorageError(
            str(output), "nothing to draw", "a folder that other commands wrote", "Run them first."
        )
    print("\n".join(f"figure: {path}" for path in paths))


def _case_figures(arguments: Arguments, case: str) -> list[Path]:
    from sda_jax.core._protocols import Timed
    from sda_jax.observations._files import load_observation
    from sda_jax.posterior._files import load_posterior

    output, system = arguments.options.output, arguments.config.system
    if not (output / case / "posterior.h5").exists():
        return []
    observation, _ = load_observation(output / case / "observation.h5", arguments.components)
    arrays = load_posterior(output / case / "posterior.h5")
    folder = output / "figures" / case
    if arrays["ensemble"].ndim == 5:
        return draw.draw_flow(folder, observation, system.dt, arrays, case)
    dt = system.dt if isinstance(system, Timed) else 1.0
    return draw.draw_posterior(folder, observation, dt, arrays, case)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/figures.py."""
    return run(figures, str(__doc__), arguments)
