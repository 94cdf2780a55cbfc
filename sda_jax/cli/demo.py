"""From an observation to its posterior, compared with the truth: table, files and figures."""

from __future__ import annotations

import argparse
import time

import numpy as np

from sda_jax.cli.common import Arguments, described, draw_case, of_file, run, the_prior
from sda_jax.cli.evaluate import reference_ensembles, score
from sda_jax.cli.figures import draw_posterior
from sda_jax.core._json import dumps
from sda_jax.observations._files import save_observation
from sda_jax.posterior._assimilate import check_observation
from sda_jax.posterior._files import save_posterior
from sda_jax.runtime._claims import claim


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", default="lo", help="which of the config's cases")
    parser.add_argument("--observation", default=None, help="HDF5 observation file to use instead")


def demo(arguments: Arguments) -> None:
    """Writes posterior, observation and figures to a folder of the case."""
    config, options = arguments.config, arguments.options
    prior = the_prior(config, options.output)
    test = draw_case(config, options.case)
    known = options.observation is None
    if not known:
        test = of_file(test, prior, options.observation)
        check_observation(prior, test.observation, len(test.truth))
    description = described(config, case=options.case, observation=options.observation)
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
    ensemble, record = score(config, prior, test, config.assimilation.sampler, references, True)
    truth = np.asarray(test.truth) if known else None
    save_observation(folder / "observation.h5", test.observation, len(test.truth))
    save_posterior(folder / "posterior.h5", ensemble, description, truth, references[0])
    arrays = {"ensemble": ensemble, "reference": references[0]}
    if truth is not None:
        arrays["truth"] = truth
    dt = getattr(config.system, "dt", 1.0)
    title = f"Posterior of {members} members given {np.size(test.observation.y)} numbers"
    paths = draw_posterior(folder, test.observation, dt, arrays, title)
    print(_table(record, reference_seconds))
    print(f"posterior: {folder / 'posterior.h5'}")
    print(f"observation: {folder / 'observation.h5'} (give one like it with --observation)")
    print("\n".join(f"figure: {path}" for path in paths))


def _table(record: dict, reference_seconds: float) -> str:
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


def main(arguments: list[str] | None = None) -> int:
    """Entry point of scripts/demo.py."""
    return run(demo, str(__doc__), arguments, "configs/lorenz63_demo.py", _options)
