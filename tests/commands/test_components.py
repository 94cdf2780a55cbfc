"""Classes of one's own in configs, priors, observations and posteriors, by the commands."""

import numpy as np
import pytest

from sda_jax.cli.main import main
from sda_jax.core._errors import ConfigError
from sda_jax.core._registry import import_components
from sda_jax.experiment import describe, score_case_posterior
from sda_jax.observations._files import load_observation
from sda_jax.posterior._files import load_posterior

pytestmark = pytest.mark.compiles
MINE = """
import jax
import jax.numpy as jnp
import sda_jax as sda
from sda_jax.core._component import component
from sda_jax.guidance import SDA
from sda_jax.systems._base import GaussianTransition


@component
class Swing(GaussianTransition):
    dt: float = 0.1
    spinup = 0
    state_shape = (2,)
    standardisation = sda.Standardisation(mean=0.0, std=(1.0, 1.0))
    transition_std = 0.05

    def init(self, key):
        return jax.random.normal(key, (2,))

    def forecast(self, x):
        return x + self.dt * jnp.array([x[1], -jnp.sin(x[0])])


@component
class Doubled:
    factor: float = 2.0

    def __call__(self, x):
        return self.factor * x[..., :1]


@component
class Laplacian:
    scale: float = 0.5

    def log_prob(self, y, prediction):
        return -jnp.abs(y - prediction) / self.scale - jnp.log(2 * self.scale)

    def sample(self, key, prediction):
        return prediction + self.scale * jax.random.laplace(key, prediction.shape)


@component
class Gentle(SDA):
    gamma: float = 0.1
"""
CONFIG = """
import sda_jax as sda
from mine import Doubled, Gentle, Laplacian, Swing
from sda_jax.experiment import Assimilation, Case, Data, Evaluation, Experiment
from sda_jax.networks import TemporalConv
from sda_jax.prior._training import Training

config = Experiment(
    system=Swing(),
    network=TemporalConv(width=8, dilations=(1, 2)),
    data=Data("stored", 10, 32, 10),
    training=Training(
        steps=4, batch=4, segment=16, block=2, checkpoint_every=4, validation_batches=1
    ),
    cases={"seen": Case(16, sda.Every(4, Doubled()), noise=Laplacian())},
    assimilation=Assimilation(3, 3, guidance=Gentle(), sampler=sda.PredictorCorrector(4)),
    evaluation=Evaluation(("seen",), 1, (), 64),
)
"""
GIVEN = ["--components", "mine:Swing", "mine:Doubled", "--components", "mine:Laplacian"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of an experiment of one's own, trained and assimilated."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    (folder / "experiment.py").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in ("train", "assimilate"):
            case = ["--case", "seen"] if command == "assimilate" else []
            assert main([command, "--config", "experiment.py", "--output", "out", *case]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(made, monkeypatch):
    monkeypatch.chdir(made)


def test_a_config_brings_its_own_classes(capsys):
    given = ["--config", "experiment.py", "--output", "out"]
    assert main(["figures", *given]) == 0
    assert "figure: out/figures/seen/posterior.png" in capsys.readouterr().out
    assert main(["evaluate", *given]) == 0
    assert "| seen | " in capsys.readouterr().out
    assert main(["evaluate", *given, "--posterior", "out/seen/posterior.h5"]) == 0
    said = capsys.readouterr().out
    assert "log_likelihood: " in said and "rmse: " in said and "chi_square" not in said


def test_an_observation_of_ones_own_is_loaded_with_its_classes(capsys):
    path = "out/seen/observation.h5"
    operator, noise = import_components(["mine:Doubled", "mine:Laplacian"])
    observation, length = load_observation(path, components=[operator, noise])
    assert isinstance(observation.operator.operator, operator) and isinstance(
        observation.noise, noise
    )
    assert length == 16 and observation.y.shape == (4, 1)
    with pytest.raises(ConfigError, match=r"'Doubled'.*components=\[...\].*--components"):
        load_observation(path)
    assert score_case_posterior("out/seen/posterior.h5", [operator, noise])["samples"] == 3


def test_a_case_is_evaluated_without_its_config(capsys):
    given = ["evaluate", "--posterior", "out/seen/posterior.h5"]
    assert main(given) == 2
    assert "--components module:Class" in capsys.readouterr().err
    assert main([*given, *GIVEN]) == 0
    assert "samples: 3" in capsys.readouterr().out


def test_inspect_says_what_it_can_and_more_with_the_classes(capsys):
    paths = ["out/prior", "out", "out/seen/observation.h5", "out/seen/posterior.h5"]
    assert main(["inspect", *paths]) == 0
    said = capsys.readouterr().out
    assert "states (2,), any length\n  network TemporalConv\n  system Swing" in said
    assert "--components MODULE:Swing" in said
    assert "of 16 states by Every" in said
    assert "--components MODULE:Doubled MODULE:Laplacian" in said
    assert main(["inspect", *paths, *GIVEN]) == 0
    said = capsys.readouterr().out
    assert "of the system Swing(dt=0.1)" in said and "weights, TemporalConv" in said
    assert "MODULE" not in said
    assert describe("out/prior", import_components(["mine:Swing"])) in said


def test_an_observation_file_is_assimilated_without_a_config(capsys):
    given = [
        "--prior",
        "out/prior",
        "--observation",
        "out/seen/observation.h5",
        "--output",
        "again",
    ]
    given += ["--assimilation.samples", "2", "--assimilation.sampler.search", "2"]
    assert main(["assimilate", *given]) == 2
    assert "a class of this package" in capsys.readouterr().err
    assert main(["assimilate", *given, *GIVEN]) == 0
    arrays = load_posterior("again/lo/posterior.h5")
    assert "truth" not in arrays and np.isfinite(arrays["ensemble"]).all()
    assert main(["evaluate", "--posterior", "again/lo/posterior.h5", *GIVEN]) == 0
    said = capsys.readouterr().out
    assert "log_likelihood: " in said and "rmse" not in said and "crps" not in said


def test_what_is_no_class_is_refused(capsys):
    for name, message in (
        ("mine", "Write both names"),
        ("mine:Nothing", "Nothing"),
        ("nowhere:Class", "nowhere"),
        ("mine:jax", "components or Linen modules"),
    ):
        assert main(["inspect", "out/prior", "--components", name]) == 2
        assert message in capsys.readouterr().err
