"""Training learns, resumes bit for bit after kills, and refuses to go on with NaN."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import gaussian_denoiser

import sda_jax as sda
from sda_jax.classical import trajectory_distribution
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, DivergenceError, StorageError
from sda_jax.data._sources import DeviceSource, FromArray, FromSimulator, Replay, Source
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._loss import LogNormalRatio
from sda_jax.diffusion._parameterisations import NoisePrediction, Preconditioned
from sda_jax.networks import ResidualMLP, TemporalConv
from sda_jax.prior._loop import train, with_weights
from sda_jax.prior._train_state import init_state
from sda_jax.prior._training import Training
from sda_jax.runtime._checkpoints import checkpointer, restore

pytestmark = pytest.mark.compiles
CHAIN = sda.VectorAutoregression()
SMALL = Training(
    steps=48, batch=8, segment=5, block=4, checkpoint_every=8, validation_batches=2, ema=0.9
)


def blank(width=8):
    return NetworkDenoiser(ResidualMLP(width, 1), None, sda.Cosine(), Preconditioned())


def run(folder, training=SMALL, denoiser=None, source=None, seed=0):
    validation = sda.simulate(jax.random.key(9), CHAIN, training.segment, batch=16)
    source = source or FromSimulator(CHAIN)
    shape = (2, 8, *validation.shape[1:])
    return train(
        denoiser or blank(),
        source,
        validation.reshape(shape),
        CHAIN.standardisation,
        training,
        folder,
        seed,
    )


def leaves(denoiser):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(denoiser.variables)])


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "parameterisation",
    [pytest.param(NoisePrediction(), marks=pytest.mark.slow), Preconditioned()],
    ids=str,
)
@pytest.mark.parametrize("stored", [pytest.param(False, marks=pytest.mark.slow), True])
def test_learns_the_exact_denoiser(parameterisation, stored, tmp_path):
    """On a chain of which the best loss is known to be far below that of no prediction."""
    network = TemporalConv(width=16, dilations=(1,), max_frequency=16.0)
    denoiser = NetworkDenoiser(network, None, sda.Cosine(), parameterisation)
    training = Training(
        steps=600, batch=32, segment=8, block=100, checkpoint_every=600, times=LogNormalRatio()
    )
    source = FromSimulator(CHAIN)
    if stored:
        source = FromArray(sda.simulate(jax.random.key(1), CHAIN, 64, batch=256))
    trained = run(tmp_path, training, denoiser, source)
    x = CHAIN.standardisation.forward(sda.simulate(jax.random.key(2), CHAIN, 8, batch=200))
    t = sda.Cosine().time(0.5)
    x_t = sda.Cosine().mu(t) * x + sda.Cosine().sigma(t) * jax.random.normal(
        jax.random.key(3), x.shape
    )
    exact = gaussian_denoiser(
        trajectory_distribution(CHAIN, 8), CHAIN.standardisation, sda.Cosine()
    )
    best = jnp.mean((jax.vmap(lambda x: exact(x, t))(x_t) - x) ** 2)
    found = jnp.mean((jax.vmap(lambda x: trained(x, t))(x_t) - x) ** 2)
    assert best < 0.2 and found < 1.25 * best, (found, best)


def test_metrics_say_what_happened(tmp_path):
    run(tmp_path)
    rows = metrics(tmp_path)
    assert [r["step"] for r in rows] == list(range(4, 49, 4))
    assert [r["step"] for r in rows if "validation_loss" in r] == list(range(8, 49, 8))
    rates = [r["learning_rate"] for r in rows]
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.arange(4, 49, 4) / 48), atol=1e-9)


class Interrupted:
    """A source whose user loses patience when a step is due."""

    def __init__(self, source, step):
        self.source, self.step, self.init = source, step, source.init

    def at(self, first, steps, then):
        if first == self.step:
            raise KeyboardInterrupt
        return self.source.at(first, steps, then)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(FromSimulator(CHAIN), marks=pytest.mark.slow),
        Replay(CHAIN, trajectories=8, length=32, refresh=2),
    ],
    ids=["simulator", "replay"],
)
def test_resumed_equals_unbroken(tmp_path, source):
    """Stopped between checkpoints, and asked for again when it is finished."""
    assert isinstance(source, Source)
    whole = leaves(run(tmp_path / "whole", source=source))

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", source=Interrupted(source, 20))
    resumed = run(tmp_path / "broken", source=source)
    np.testing.assert_array_equal(leaves(resumed), whole)
    steps = [r["step"] for r in metrics(tmp_path / "broken")]
    assert steps == list(range(4, 49, 4))
    np.testing.assert_array_equal(leaves(run(tmp_path / "whole", source=source)), whole)
    assert (leaves(run(tmp_path / "other", source=source, seed=1)) != whole).any()


def test_the_best_weights_are_those_of_the_checkpoint_with_the_lowest_loss(tmp_path):
    """Of a training whose data are few: the loss on others falls, then rises."""
    few = FromArray(sda.simulate(jax.random.key(3), CHAIN, 5, batch=2))
    training = dataclasses.replace(SMALL, steps=600, block=15, checkpoint_every=30, keep="best")
    training = dataclasses.replace(training, learning_rate=1e-2, decay="cosine")
    start = blank(32)
    found = run(tmp_path / "best", training, start, few)
    rows = [r for r in metrics(tmp_path / "best") if "validation_loss" in r]
    losses = {r["step"]: r["validation_loss"] for r in rows}
    best = min(losses, key=losses.get)
    assert best < 600 and losses[best] < 0.9 * losses[600]
    last = dataclasses.replace(training, keep="last")
    stopped = Interrupted(few, best)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "last", last, start, stopped)
    with checkpointer(tmp_path / "last" / "checkpoints") as manager:
        blank_state = jax.eval_shape(lambda: init_state(0, start, few, last, CHAIN.state_shape))
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), blank_state
        )
        state = restore(manager, best, like)
    np.testing.assert_array_equal(leaves(found), leaves(with_weights(found, state.averaged)))
    impatient = dataclasses.replace(training, patience=3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "resumed", impatient, start, Interrupted(few, best + 60))
    for _ in range(2):  # and asked for again when it is finished
        resumed = run(tmp_path / "resumed", impatient, start, few)
        np.testing.assert_array_equal(leaves(resumed), leaves(found))
    assert metrics(tmp_path / "resumed")[-1]["step"] == best + 3 * 30


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import dataclasses, numpy as np
import jax
jax.config.update("jax_compilation_cache_dir", {cache!r})
import test_train as t
training = dataclasses.replace(t.SMALL, steps=3000, checkpoint_every=40)
np.save({out!r}, t.leaves(t.run(Path({folder!r}), training)))
"""


@pytest.mark.slow
def test_killed_three_times_ends_with_the_same_weights(tmp_path):
    rng = random.Random(0)

    def start(name):
        code = KILLED.format(
            tests=os.path.dirname(__file__),
            folder=str(tmp_path / name),
            out=str(tmp_path / f"{name}.npy"),
            cache=str(tmp_path / "cache"),
        )
        return subprocess.Popen([sys.executable, "-c", code])

    assert start("whole").wait() == 0
    kills = 0
    while kills < 3:
        process = start("killed")
        path = tmp_path / "killed" / "metrics.jsonl"
        before = path.stat().st_size if path.exists() else 0
        while process.poll() is None and (not path.exists() or path.stat().st_size <= before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.8))
        assert process.poll() is None, "finished before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert start("killed").wait() == 0
    np.testing.assert_array_equal(np.load(tmp_path / "killed.npy"), np.load(tmp_path / "whole.npy"))


def test_nan_stops_the_training_and_the_last_checkpoint_stays(tmp_path):
    run(tmp_path, Training(**{**vars(SMALL), "steps": 16}))
    data = np.array(sda.simulate(jax.random.key(1), CHAIN, 8, batch=4))
    data[2, 3] = np.nan
    with pytest.raises(DivergenceError, match=r"loss: got nan at step 1\d.*step 16 .*kept"):
        run(tmp_path, SMALL, source=FromArray(jnp.asarray(data)), denoiser=blank())
    with checkpointer(tmp_path / "checkpoints") as manager:
        assert manager.latest.step == 16


def test_checkpoints_of_another_network_or_damaged_are_refused(tmp_path):
    run(tmp_path, Training(**{**vars(SMALL), "steps": 16}))
    with pytest.raises(StorageError, match="configuration"):
        run(tmp_path, denoiser=blank(width=16))
    for path in (tmp_path / "checkpoints" / "16").rglob("*"):
        if path.is_file() and path.stat().st_size > 200:
            path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StorageError, match="Remove the folder 16"):
        run(tmp_path)


def test_a_finished_longer_training_is_not_mistaken_for_a_shorter_one(tmp_path):
    run(tmp_path, Training(**{**vars(SMALL), "steps": 16}))
    with pytest.raises(StorageError, match="step 16.*at most 8"):
        run(tmp_path, Training(**{**vars(SMALL), "steps": 8}))


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="source: got str; expected a Source.*DeviceSource"):
        run(tmp_path, source="simulator")


@component
class Constant(DeviceSource):
    """A source of one's own: one method."""

    value: float = 0.5

    def draw(self, key, state, batch, length):
        return state, jnp.full((batch, length, 2), self.value)


def test_a_source_of_ones_own_is_one_method(tmp_path):
    run(tmp_path, source=Constant())
    assert {"waited", "loss"} < metrics(tmp_path)[0].keys()


def test_impossible_settings_are_refused():
    for name in ("steps", "batch", "segment", "block", "checkpoint_every"):
        with pytest.raises(ConfigError, match=f"{name}: got 0"):
            Training(**{name: 0})
    with pytest.raises(ConfigError, match="decay: got 'exponential'.*'linear', 'cosine'"):
        Training(decay="exponential")
    with pytest.raises(ConfigError, match="learning_rate"):
        Training(learning_rate=float("nan"))


def test_learning_rate_schedules():
    for decay, middle in (("linear", 5e-4), ("cosine", 5e-4)):
        rate = Training(steps=100, decay=decay).rate()
        np.testing.assert_allclose([rate(0), rate(50), rate(100)], [1e-3, middle, 0], atol=1e-9)
    quarter = [
        float(np.asarray(Training(steps=100, decay=d).rate()(25))) for d in ("linear", "cosine")
    ]
    np.testing.assert_allclose(quarter, [7.5e-4, 8.5355e-4], rtol=1e-4)


def test_an_unstable_simulator_is_named(tmp_path):
    system = sda.Lorenz63(dt=0.5)
    network = TemporalConv(width=8, dilations=(1,))
    denoiser = NetworkDenoiser(network, None, sda.Cosine(), Preconditioned())
    training = Training(steps=4, batch=4, segment=8, block=4, validation_batches=1)
    with pytest.raises(DivergenceError, match=r"source of segments at training step 0.*lower .*dt"):
        train(
            denoiser, FromSimulator(system), jnp.zeros((1, 4, 8, 3)), system.standardisation,
            training, tmp_path,
        )  # fmt: skip
