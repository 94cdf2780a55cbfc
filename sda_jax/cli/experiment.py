"""Runs a flow experiment: for each case an observation of a fresh simulation, its posterior, the
scores and the figures."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sda_jax import figures as draw
from sda_jax.cli.common import Arguments, run
from sda_jax.core._errors import ConfigError

if TYPE_CHECKING:
    from sda_jax.experiment._config import Experiment
    from sda_jax.experiment._flow import ForwardCheck
    from sda_jax.observations._observation import Observation
    from sda_jax.prior._prior import Prior


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default=None, help="one of the config's cases; default all")
    parser.add_argument("--index", type=int, default=0, help="which test of the cases")


def experiment(arguments: Arguments) -> None:
    """Writes observation, posterior, scores, panels and an animation below the cases' names."""
    config, options = arguments.config, arguments.options
    if config.system is None or len(config.system.state_shape) != 3:
        raise ConfigError(
            "system",
            type(config.system).__name__,
            "a system whose states are fields (x, y, component)",
            "Use `sda-jax demo` for systems of a few variables.",
        )
    from sda_jax.experiment._cases import configured_prior

    prior = configured_prior(config, options.output, arguments.components)
    for name in [options.case] if options.case else config.cases:
        _run_case(config, prior, options.output, name, options.index)


def _run_case(config: Experiment, prior: Prior, output: Path, name: str, index: int) -> None:
    import numpy as np

    from sda_jax.core._json import dumps
    from sda_jax.experiment._cases import describe_run, draw_case, sample_posterior, the_case
    from sda_jax.experiment._flow import check_forward, flow_scores, flow_table
    from sda_jax.observations._files import save_observation
    from sda_jax.observations._operators import At
    from sda_jax.posterior._files import save_posterior
    from sda_jax.runtime._claims import claim
    from sda_jax.runtime._files import write_text

    case = the_case(config, name)
    description = describe_run(config, case=name, index=index)
    folder = claim(output / name, dumps(description))
    print(f"{name}: simulating a truth ...", flush=True)
    test = draw_case(config, name, index)
    start = time.perf_counter()
    ensemble, diagnosis = sample_posterior(prior, test, config.assimilation, progress=True)
    seconds = time.perf_counter() - start
    save_observation(folder / "observation.h5", test.observation, test.length)
    save_posterior(folder / "posterior.h5", ensemble, description, test.truth)
    record = {**flow_scores(test, ensemble), "seconds": seconds}
    write_text(folder / "scores.json", json.dumps(record, indent=2) + "\n")
    print(f"{name}\n{flow_table(record)}\n{diagnosis.summary()}")
    arrays = {"ensemble": ensemble}
    if test.truth is not None:
        arrays["truth"] = np.asarray(test.truth)
    paths = draw.draw_flow(folder, test.observation, config.system.dt, arrays, name)
    if isinstance(case.operator, At) and case.imposed is not None:
        check = check_forward(config, test, ensemble)
        paths.append(_show(check, folder, test.observation, config.system.dt))
    print("\n".join(f"figure: {path}" for path in paths), flush=True)


def _show(check: ForwardCheck, folder: Path, observation: Observation, dt: float) -> Path:
    of_members, of_simulations, asked = check.observed
    print("simulated forward from the members' first states:")
    print("  RMS difference by state " + " ".join(f"{e:.3f}" for e in check.errors))
    print(
        f"  mean of A: members {of_members:.3f}, simulations {of_simulations:.3f}, "
        f"imposed {asked:.3f}"
    )
    length, shape = check.members.shape[1], check.members.shape[2:]
    seen, label = draw.observed_fields(observation, length, shape)
    figure = draw.flow_panels(
        check.simulations,
        dt,
        check.members[0],
        seen,
        label,
        truth_label="member 1",
        member_label="simulation",
        title="simulations from the members' first states, and the first of these members",
    )
    return draw.save(figure, folder / "forward.png")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/experiment.py."""
    return run(experiment, str(__doc__), arguments, add_options=_options)
