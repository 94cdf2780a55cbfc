"""Configs load, survive JSON, take overrides; the commands run end to end at a tiny size."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT

import sda_jax as sda
from sda_jax.cli import assimilate, demo, evaluate, experiment, figures, simulate, train
from sda_jax.core._errors import ConfigError
from sda_jax.core._json import dumps, loads
from sda_jax.core._registry import registry
from sda_jax.diffusion._grids import EvenTime
from sda_jax.diffusion._schedules import Cosine
from sda_jax.experiment import (
    case_of_file,
    demo_experiment,
    draw_case,
    reference_ensembles,
    score_case,
    summary,
)
from sda_jax.experiment._config import Experiment, load_config, override
from sda_jax.guidance import SDA
from sda_jax.observations._files import load_observation, save_observation
from sda_jax.posterior._files import load_posterior
from sda_jax.runtime._hdf5 import read_hdf5
from sda_jax.samplers import ExponentialIntegrator, Langevin, PredictorCorrector

pytestmark = pytest.mark.compiles
CONFIGS = [p for p in sorted((ROOT / "configs").glob("*.py")) if not p.stem.endswith("_common")]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_loads_says_its_command_and_survives_json(path):
    config, doc = load_config(path)
    assert f"configs/{path.name}" in doc or "sda-jax demo" in doc
    assert loads(dumps(config), registry()) == config


def test_the_paper_settings():
    config, _ = load_config(ROOT / "configs" / "lorenz63_conv_paper.py")
    assert config.assimilation.sampler == PredictorCorrector(
        256, EvenTime(), ExponentialIntegrator(), Langevin(1, 0.25)
    )
    assert config.assimilation.guidance == SDA(gamma=3e-2)
    assert config.schedule == Cosine(eta=1e-3)
    assert config.evaluation.corrections == (0, 1, 2, 4, 8, 16)
    assert (config.evaluation.observations, config.assimilation.samples) == (64, 1024)
    training = config.training
    assert (training.steps, training.batch, training.segment) == (1024 * 256, 64, 32)
    assert (training.learning_rate, training.weight_decay, training.decay) == (1e-3, 1e-3, "linear")
    for k in (1, 2, 3, 4):
        local, _ = load_config(ROOT / "configs" / f"lorenz63_local_k{k}_paper.py")
        assert local.window == local.training.segment == 2 * k + 1
        assert (local.network.width, local.network.blocks, local.training.batch) == (256, 5, 256)


def test_overrides_are_typed(capsys):
    config, _ = load_config(ROOT / "configs" / "lorenz63_conv_laptop.py")
    arguments = (
        "--training.steps 7 --cases.lo.std 0.5 --system.dt 0.01 --network.width 8 "
        "--assimilation.sampler.alone.sampler.corrector.tau 0.1 --seed 3"
    )
    changed = override(config, arguments.split())
    assert (changed.training.steps, changed.cases["lo"].std, changed.seed) == (7, 0.5, 3)
    assert (changed.system.dt, changed.network.width) == (0.01, 8)
    assert changed.assimilation.sampler.alone.sampler.corrector.tau == 0.1
    wrong = {
        "--training.stepz 7": "--training.steps",
        "--seed x": "invalid",
        "--training.steps 0": "steps: got 0; expected at least 1",
        "--assimilation.sampler.corrections -1": "corrections: got -1",
    }
    for arguments, said in wrong.items():
        with pytest.raises(SystemExit):
            override(config, arguments.split())
        assert said in capsys.readouterr().err


def test_bad_config_files_are_refused(tmp_path):
    for content, message in {"1/0": "ZeroDivisionError", "x = 1": "sets config"}.items():
        (tmp_path / "bad.py").write_text(content)
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / "bad.py")
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(tmp_path / "nowhere.py")
    with pytest.raises(ConfigError, match=r"training.segment: got 32.*window, 5"):
        Experiment(sda.Lorenz63(), None, window=5)


TINY = (
    "--config {config} --output {out} --training.steps 8 --training.batch 4 --training.block 4 "
    "--training.checkpoint-every 4 --training.validation-batches 1 --network.width 8 "
    "--network.dilations 1 2 --assimilation.samples 6 --assimilation.memory.chunk 4 "
    "--evaluation.observations 1 --evaluation.particles 512 --data.trajectories 10 --data.length 70"
)


LAPTOP = ROOT / "configs" / "lorenz63_conv_laptop.py"
SEARCH = ("--assimilation.sampler.search", "4", "--assimilation.sampler.refinement", "2")
# a sampler that is compiled in a tenth of the time of the default
INDEPENDENT = f"""
import dataclasses
import sda_jax as sda
from sda_jax.experiment._config import load_config

config, _ = load_config({str(LAPTOP)!r})
sampler = sda.PredictorCorrector(4, sda.LogSNR(), sda.DPMSolverPP2M(), sda.Langevin(1, 0.1))
guided = {{"guidance": sda.GaussianCovariance(4), "sampler": sampler}}
assimilation = dataclasses.replace(config.assimilation, **guided)
config = dataclasses.replace(config, assimilation=assimilation)
"""


def tiny(out: Path, *more: str, config: Path = LAPTOP) -> list[str]:
    return TINY.format(config=config, out=out).split() + list(more)


def test_commands_end_to_end(tmp_path, capsys):
    """Simulate, train on the stored set, assimilate, evaluate (resumed), draw."""
    independent = tmp_path / "independent.py"
    independent.write_text(INDEPENDENT)
    assert simulate.main(tiny(tmp_path)) == 0
    assert train.main(tiny(tmp_path, "--data.source", "stored")) == 0
    assert train.main(tiny(tmp_path, "--data.source", "stored", "--training.batch", "5")) == 2
    assert "another run" in capsys.readouterr().err
    for case in ("lo", "multimodal"):
        assert assimilate.main(tiny(tmp_path, "--case", case, config=independent)) == 0
    assert assimilate.main(tiny(tmp_path, "--case", "low")) == 2
    assert "'low'" in capsys.readouterr().err
    given = tiny(tmp_path, "--evaluation.corrections", "0", "1", config=independent)
    assert evaluate.main(given) == 0
    records = tmp_path / "evaluation" / "records.jsonl"
    before = records.read_text()
    assert len(before.splitlines()) == 4
    assert evaluate.main(given) == 0
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "log prior gap" in page and "data:image/png;base64," in page and "<script" not in page
    assert records.read_text() == before
    assert figures.main(tiny(tmp_path, config=independent)) == 0
    drawn = {str(p.relative_to(tmp_path / "figures")) for p in tmp_path.rglob("*.png")}
    assert drawn == {
        "training.png",
        "accuracy.png",
        "lo/posterior.png",
        "lo/phase_space.png",
        "multimodal/posterior.png",
        "multimodal/phase_space.png",
        "multimodal/modes.png",
    }
    arrays = load_posterior(tmp_path / "lo" / "posterior.h5")
    assert arrays["ensemble"].shape == (6, 65, 3) and arrays["truth"].shape == (65, 3)
    with read_hdf5(tmp_path / "lo" / "posterior.h5", "posterior") as file:
        description = json.loads(file.attrs["description"])["dict"]
    assert loads(json.dumps(description["experiment"]), registry()).training.steps == 8


def test_demo_reads_an_observation_file(tmp_path, capsys, monkeypatch):
    """From any folder, without a config file; and where no truth is known none is invented."""
    monkeypatch.chdir(tmp_path)
    y = np.linspace(-3, 3, 3).reshape(3, 1).astype(np.float32)
    observation = sda.Observation(y, sda.Every(8, sda.Channels((0,))), std=0.4)
    save_observation(tmp_path / "mine.h5", observation, 17)
    again, length = load_observation(tmp_path / "mine.h5")
    assert length == 17 and again.operator == observation.operator
    common = [
        *("--output", str(tmp_path / "out")),
        *("--assimilation.samples", "6", "--assimilation.memory.chunk", "6"),
        *SEARCH,
        *["--evaluation.particles", "2048"],
    ]
    assert demo.main([*common, "--observation", str(tmp_path / "mine.h5")]) == 0
    out = capsys.readouterr().out
    assert "W1 to the truth" in out and "floor" in out
    arrays = load_posterior(tmp_path / "out" / "file" / "posterior.h5")
    assert "truth" not in arrays and arrays["ensemble"].shape == (6, 17, 3)
    config = override(demo_experiment(), common[2:])
    prior = sda.load_prior("lorenz63")
    test = case_of_file(config, prior, tmp_path / "mine.h5")
    assert test.truth is None and test.simulation is None
    sampler, references = config.assimilation.sampler, reference_ensembles(config, test)
    _, record = score_case(config, prior, test, sampler, references)
    assert record["spread_ratio"] > 0
    assert not {"rmse", "rmse_reference", "crps", "crps_reference"} & set(record)
    assert "|  | " in summary([{"case": "file", "observation": 0, **record}])
    (tmp_path / "bad.h5").write_text("no")
    assert demo.main([*common, "--observation", str(tmp_path / "bad.h5")]) == 2
    assert "damaged" in capsys.readouterr().err


def test_an_imposed_value_has_no_truth():
    config, _ = load_config(ROOT / "configs" / "lorenz63_conv_laptop.py")
    case = dataclasses.replace(config.cases["lo"], imposed=1.0)
    plain, imposed = (
        draw_case(dataclasses.replace(config, cases={"lo": c}), "lo")
        for c in (config.cases["lo"], case)
    )
    assert plain.truth is plain.simulation and imposed.truth is None
    np.testing.assert_array_equal(imposed.simulation, plain.truth)
    np.testing.assert_array_equal(imposed.observation.y, np.ones_like(plain.observation.y))


@pytest.mark.slow
def test_own_system_through_the_commands(tmp_path):
    """The tutorial's pendulum, in a config file of its own."""
    page = (ROOT / "docs" / "tutorials" / "own_ode.md").read_text()
    code = page[page.index("import jax.numpy as jnp") : page.index("trajectories = ")]
    (tmp_path / "pendulum.py").write_text(
        '"""Own system."""\nimport jax\nimport sda_jax as sda\n'
        + code
        + "from sda_jax.experiment import Case, Experiment\n"
        "from sda_jax.networks import TemporalConv\n"
        "config = Experiment(system=Pendulum(), network=TemporalConv(), cases={'lo': Case()})\n"
    )
    pendulum = tmp_path / "pendulum.py"
    arguments = tiny(tmp_path / "out", *SEARCH, "--evaluation.cases", "lo", config=pendulum)
    for command in (train, assimilate, evaluate):
        assert command.main(arguments) == 0


def test_functions_have_no_place_in_files(tmp_path):
    observation = sda.Observation(np.zeros((2, 1)), lambda x: x[::8, :1], std=1.0)
    with pytest.raises(ConfigError, match="component"):
        save_observation(tmp_path / "x.h5", observation, 9)


FLOW = (
    "--config {config} --output {out} --system.size 32 --system.spinup 2 --training.steps 4 "
    "--training.batch 2 --training.block 2 --training.checkpoint-every 2 "
    "--training.validation-batches 1 --network.channels 8 8 --network.blocks 1 1 "
    "--data.source replay --data.trajectories 4 --data.length 8 --data.refresh 2 "
    "--assimilation.samples 3 --assimilation.memory.chunk 2 --assimilation.sampler.steps 2"
)


@pytest.mark.slow
def test_flow_experiments_end_to_end(tmp_path, capsys):
    """Train from the replay buffer, then every experiment on the tiny prior."""
    small = "--prior", str(tmp_path / "prior")

    def arguments(name, *more):
        config = ROOT / "configs" / f"kolmogorov_{name}.py"
        return [*FLOW.format(config=config, out=tmp_path).split(), *more]

    assert train.main(arguments("laptop")) == 0
    again = ["--start", str(tmp_path / "prior")]
    again[:0] = ["--output", str(tmp_path / "on"), "--training.learning-rate", "1e-9"]
    assert train.main(arguments("laptop", *again)) == 0
    assert "Slope of x on D(x_t)" in capsys.readouterr().out
    first, second = (sda.load_prior(p / "prior").denoiser for p in (tmp_path, tmp_path / "on"))
    np.testing.assert_array_equal(
        first.parameterisation.variances, second.parameterisation.variances
    )
    for a, b in zip(*map(jax.tree.leaves, (first.variables, second.variables)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    other = ["--output", str(tmp_path / "other"), "--network.channels", "8", "16"]
    assert train.main(arguments("laptop", *again[-2:], *other)) == 2
    assert "whose weights differs" in capsys.readouterr().err
    for name in ("subsampling", "circle", "loop"):
        chosen = ["--case", "every_4"] if name == "subsampling" else []
        if name == "loop":
            chosen = ["--cases.loop.length", "9"]
        assert experiment.main(arguments(name, *small, *chosen)) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.count("std(A(x) - y)") == 3 and "simulated forward" in out
    for case in ("every_4", "circle", "loop"):
        for picture in ("panels.png", "posterior.gif", "spectra.png"):
            assert (tmp_path / case / picture).stat().st_size > 10_000
    assert len(list((tmp_path / "circle").glob("*.png"))) == 3
    assert experiment.main(arguments("circle", "--prior", "kolmogorov")) == 2
    assert "resolution" in capsys.readouterr().err
    lorenz = ["--config", str(ROOT / "configs" / "lorenz63_demo.py")]
    assert experiment.main(lorenz) == 2
    assert "whose states are fields" in capsys.readouterr().err
    assert evaluate.main(arguments("circle", *small, "--evaluation.cases", "circle")) == 2
    assert "no density" in capsys.readouterr().err
