"""The shipped Lorenz prior against the particle smoother, over samplers of rising cost.

Test observations are those of `scripts/evaluate.py`. Records go to results/lorenz.jsonl; run again,
it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from common import RESULTS, record

import sda_jax as sda
from sda_jax.assimilate import DEFAULT_GUIDANCE, DEFAULT_SAMPLER
from sda_jax.cli.common import draw_case
from sda_jax.cli.evaluate import reference_ensembles, score, summary, with_corrections
from sda_jax.config import load_config
from sda_jax.serialize import encode
from sda_jax.storage import append_record, read_records, write_records

EVEN, FIRST = sda.EvenTime(), sda.ExponentialIntegrator()
PAPER = sda.SDA(3e-2)
LADDER = {
    "default (C = 7)": (DEFAULT_GUIDANCE, DEFAULT_SAMPLER),
    "default grid, C = 3": (DEFAULT_GUIDANCE, with_corrections(DEFAULT_SAMPLER, 3)),
    "default grid, C = 1": (DEFAULT_GUIDANCE, with_corrections(DEFAULT_SAMPLER, 1)),
    "paper, C = 0": (PAPER, sda.PredictorCorrector(256, EVEN, FIRST, sda.Langevin(0, 0.25))),
    "paper, C = 1": (PAPER, sda.PredictorCorrector(256, EVEN, FIRST, sda.Langevin(1, 0.25))),
    "DPS": (sda.DPS(), sda.PredictorCorrector(256, EVEN, FIRST, sda.Langevin(1, 0.25))),
}


def settings_of(name: str) -> str:
    """What a rung of the ladder is made of, on one line."""
    return json.dumps([encode(part) for part in LADDER[name]])


def main() -> None:
    """Scores every sampler that is not yet recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=8)
    parser.add_argument("--samplers", nargs="*", choices=LADDER, default=list(LADDER))
    options = parser.parse_args()
    root = Path(__file__).parent.parent
    config, _ = load_config(root / "configs" / "lorenz63_demo.py")
    prior = sda.load_prior(config.prior)
    path = RESULTS / "lorenz.jsonl"
    known = {name: settings_of(name) for name in LADDER}
    records = [r for r in read_records(path) if known.get(r["sampler"]) == r["settings"]]
    write_records(path, records)
    for index in range(options.observations):
        for case in config.evaluation.cases:
            done = {r["sampler"] for r in records if (r["case"], r["observation"]) == (case, index)}
            todo = [name for name in options.samplers if name not in done]
            if not todo:
                continue
            test = draw_case(config, case, index)
            references = reference_ensembles(config, test)
            for name in todo:
                guidance, sampler = LADDER[name]
                settings = dataclasses.replace(config.assimilation, guidance=guidance)
                chosen = dataclasses.replace(config, assimilation=settings)
                _, scores = score(chosen, prior, test, sampler, references)
                found = {"case": case, "observation": index, "sampler": name}
                found |= {"settings": known[name], **scores}
                records.append(found)
                append_record(path, found)
                print(f"{case} {index} {name}: {scores['w1'] / scores['w1_floor']:.3f}", flush=True)
    settings = config.assimilation
    record(
        "lorenz",
        f"Lorenz 1963, shipped prior, {settings.samples} samples",
        "Medians over the test observations; gaps are posterior minus smoother; the smoother has "
        f"{config.evaluation.particles} particles and the floor is between two runs of it.\n\n"
        + summary(sorted(records, key=lambda r: r["case"], reverse=True), by="sampler"),
    )


if __name__ == "__main__":
    main()
