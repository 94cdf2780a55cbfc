"""From an observation to its posterior, compared with the truth: table, files and figures."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from sda_jax.cli.common import Arguments, run

if TYPE_CHECKING:
    from sda_jax.experiment._config import Experiment


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default="lo", help="which of the config's cases")
    parser.add_argument("--observation", default=None, help="HDF5 observation file to use instead")


def demo(arguments: Arguments) -> None:
    """Writes posterior, observation and figures to a folder of the case."""
    import numpy as np

    from sda_jax.core._json import dumps
    from sda_jax.core._protocols import Timed
    from sda_jax.experiment._cases import case_of_file, configured_prior, describe_run, draw_case
    from sda_jax.experiment._comparison import reference_ensembles, score_case
    from sda_jax.figures import draw_posterior
    from sda_jax.observations._files import save_observation
    from sda_jax.posterior._arguments import check_observation
    from sda_jax.posterior._files import save_posterior
    from sda_jax.runtime._claims import claim

    config, options = arguments.config, arguments.options
    prior = configured_prior(config, options.output, arguments.components)
    if options.observation is None:
        test = draw_case(config, options.case)
    else:
        test = case_of_file(
            config, prior, options.observation, options.case, components=arguments.components
        )
        check_observation(prior, test.observation, test.length)
    description = describe_run(config, case=options.case, observation=options.observation)
    folder = claim(
        options.output / ("file" if options.observation else options.case), dumps(description)
    )
    members = config.assimilation.samples
    print(f"assimilating {np.size(test.observation.y)} numbers into {members} trajectories ...")
    print(f"particle smoother, {config.evaluation.particles} particles, twice ...", flush=True)
    start = time.perf_counter()
    references = reference_ensembles(config, test)
    reference_seconds = time.perf_counter() - start
    print("posterior sampling ...", flush=True)
    ensemble, record = score_case(
        config, prior, test, config.assimilation.sampler, references, progress=True
    )
    arrays = {"ensemble": ensemble, "reference": references[0]}
    if test.truth is not None:
        arrays["truth"] = np.asarray(test.truth)
    save_observation(folder / "observation.h5", test.observation, test.length)
    save_posterior(
        folder / "posterior.h5", ensemble, description, arrays.get("truth"), references[0]
    )
    dt = config.system.dt if isinstance(config.system, Timed) else 1.0
    title = f"Posterior of {members} members given {np.size(test.observation.y)} numbers"
    paths = draw_posterior(folder, test.observation, dt, arrays, title)
    print(_table(record, reference_seconds))
    print(record["diagnosis"])
    print(f"posterior: {folder / 'posterior.h5'}")
    print(f"observation: {folder / 'observation.h5'} (give one like it with --observation)")
    print("\n".join(f"figure: {path}" for path in paths))


def _table(record: dict[str, Any], reference_seconds: float) -> str:
    rows = [
        ("W1 to the truth", f"{record['w1']:.2f}", f"{record['w1_floor']:.2f} (floor)"),
        ("log prior", f"{record['log_prior']:.1f}", f"{record['log_prior_truth']:.1f}"),
        (
            "log likelihood",
            f"{record['log_likelihood']:.2f}",
            f"{record['log_likelihood_truth']:.2f}",
        ),
        ("spread / smoother's", f"{record['spread_ratio']:.3f}", "1"),
        ("network evaluations", f"{record['forwards']} + {record['vjps']} VJPs", "-"),
        ("seconds", f"{record['seconds']:.1f}", f"{reference_seconds:.1f} (two runs)"),
    ]
    lines = [f"{'':22s}{'posterior':>20s}{'particle smoother':>22s}"]
    return "\n".join(lines + [f"{a:22s}{b:>20s}{c:>22s}" for a, b, c in rows])


def _default() -> Experiment:
    from sda_jax.experiment._demo import demo_experiment

    return demo_experiment()


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `sda-jax demo`."""
    return run(demo, str(__doc__), arguments, _default, _options, "demo")
