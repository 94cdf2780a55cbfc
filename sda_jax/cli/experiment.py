"""Runs a flow experiment: for each case an observation of a fresh simulation, its posterior, the
scores and the figures."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from sda_jax import figures as draw
from sda_jax.cli.common import (
    Arguments,
    TestCase,
    described,
    draw_case,
    posterior,
    run,
    the_case,
    the_prior,
)
from sda_jax.cli.figures import draw_flow, shown
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps
from sda_jax.core._keys import stream
from sda_jax.data._simulation import forecast
from sda_jax.evaluation import _metrics as metrics
from sda_jax.experiment._config import Experiment
from sda_jax.observations._files import save_observation
from sda_jax.observations._operators import At
from sda_jax.posterior._files import save_posterior
from sda_jax.runtime._files import claim, write_text


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default=None, help="one of the config's cases; default all")
    parser.add_argument("--index", type=int, default=0, help="which test of the cases")


def scores(test: TestCase, ensemble: np.ndarray, imposed: bool) -> dict[str, Any]:
    """What an ensemble is judged by. Where y was imposed there is no truth to compare with."""
    record: dict[str, Any] = {
        "residual_std": metrics.residual_std(test.observation, ensemble),
        "spectrum_distance": metrics.spectrum_distance(ensemble, test.truth),
    }
    if test.observation.std is not None:  # a distribution that is not Gaussian has none
        square = np.mean(np.asarray(test.observation.std) ** 2)
        record["observation_std"] = float(np.sqrt(square))
    if len(ensemble) > 1:
        record["spread"] = metrics.spread(ensemble)
    if not imposed:
        record["rmse"] = metrics.rmse(ensemble, test.truth)
        if len(ensemble) > 1:
            record["crps"] = metrics.crps(ensemble, test.truth)
            record["spread_skill"] = metrics.spread_skill(ensemble, test.truth)
    return record


def _report(name: str, record: dict[str, Any]) -> str:
    labels = {
        "residual_std": "std(A(x) - y)",
        "observation_std": "std of the observation",
        "rmse": "RMSE of the mean against the truth",
        "spread": "spread",
        "crps": "CRPS",
        "spread_skill": "spread / skill",
        "spectrum_distance": "energy spectrum distance (RMS of log10)",
        "seconds": "seconds",
    }
    lines = [f"{labels[key]:40s} {record[key]:.4f}" for key in labels if key in record]
    return "\n".join([name, *lines])


def _verify(config: Experiment, folder: Path, test: TestCase, ensemble: np.ndarray) -> list[Path]:
    """Simulates members forward from their first states and compares."""
    system, members, length = config.system, ensemble[:4], ensemble.shape[1]
    key = stream(config.seed, "forecast")
    ahead = np.stack([forecast(key, system, jnp.asarray(m[0]), length) for m in members])
    errors = np.sqrt(((ahead - members) ** 2).mean(axis=(0, 2, 3, 4)))
    asked = float(np.nanmean(np.asarray(test.observation.y)))
    means = [
        float(np.mean([test.observation.operator(jnp.asarray(x)) for x in paths]))
        for paths in (members, ahead)
    ]
    print("simulated forward from the members' first states:")
    print("  RMS difference by state " + " ".join(f"{e:.3f}" for e in errors))
    print(f"  mean of A: members {means[0]:.3f}, simulations {means[1]:.3f}, imposed {asked:.3f}")
    seen, label = shown(test.observation, length, ensemble.shape[2:])
    figure = draw.flow_panels(
        ahead,
        system.dt,
        members[0],
        seen,
        label,
        truth_label="member 1",
        member_label="simulation",
        title="simulations from the members' first states, and the first of these members",
    )
    return [draw.save(figure, folder / "forward.png")]


def experiment(arguments: Arguments) -> None:
    """Writes observation, posterior, scores, panels and an animation below the cases' names."""
    config, options = arguments.config, arguments.options
    if len(config.system.state_shape) != 3:
        raise ConfigError(
            "system",
            type(config.system).__name__,
            "a system whose states are fields (x, y, component)",
            "Use scripts/demo.py for systems of a few variables.",
        )
    prior = the_prior(config, options.output)
    for name in [options.case] if options.case else config.cases:
        case = the_case(config, name)
        imposed = case.imposed is not None
        description = described(config, case=name, index=options.index)
        folder = claim(options.output / name, dumps(description))
        print(f"{name}: simulating a truth ...", flush=True)
        test = draw_case(config, name, options.index)
        start = time.perf_counter()
        ensemble = posterior(prior, test, config.assimilation, True)
        seconds = time.perf_counter() - start
        save_observation(folder / "observation.h5", test.observation, len(test.truth))
        save_posterior(
            folder / "posterior.h5", ensemble, description, None if imposed else test.truth
        )
        record = {**scores(test, ensemble, imposed), "seconds": seconds}
        write_text(folder / "scores.json", json.dumps(record, indent=2) + "\n")
        print(_report(name, record))
        arrays = {"ensemble": ensemble} | ({} if imposed else {"truth": np.asarray(test.truth)})
        paths = draw_flow(folder, test.observation, config.system.dt, arrays, name)
        if isinstance(case.operator, At) and imposed:
            paths += _verify(config, folder, test, ensemble)
        print("\n".join(f"figure: {path}" for path in paths), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/experiment.py."""
    return run(experiment, str(__doc__), arguments, add_options=_options)
