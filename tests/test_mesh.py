"""Several devices give what one gives: computed in one other process with 8 host devices."""

import json
import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from launch import environment

import sda_jax as sda
from sda_jax.core._errors import ConfigError

SETUP = """
import contextlib, dataclasses, gc, io, json, re, shutil, sys, traceback
gc.set_threshold(100_000, 50, 50)  # as in conftest
import jax, jax.numpy as jnp, numpy as np
import sda_jax as sda
from sda_jax.prior._trajectory_denoiser import trajectory_denoiser
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.diffusion._parameterisations import Preconditioned
from sda_jax.networks import TemporalConv
from sda_jax.data._sources import FromSimulator
from sda_jax.prior._loop import train
from sda_jax.prior._training import Training
from sda_jax.samplers import draw
SYSTEM = sda.Lorenz63()
EVEN, FIRST = sda.LogSNR(), sda.ExponentialIntegrator()
SAMPLER = sda.Candidates(sda.PredictorCorrector(8, EVEN, FIRST, sda.Langevin(1, 0.1)), 2)
NETWORK = TemporalConv(width=16, dilations=(1, 8))  # which sees a fourth of 32 states and beyond
BUDGET = {"steps": 10, "block": 5, "checkpoint_every": 5, "validation_batches": 1}
TRAINING = Training(batch=8, segment=16, **BUDGET)

def untrained():  # with small weights, of which draws of the size of data are made
    blank = NetworkDenoiser(NETWORK, None, sda.Cosine(), Preconditioned())
    variables = jax.jit(lambda key: blank.init(key, (64, 3)))(jax.random.key(8))
    variables = jax.tree.map(lambda leaf: 0.5 * leaf, variables)
    denoiser = NetworkDenoiser(NETWORK, variables, sda.Cosine(), Preconditioned())
    return sda.Prior(denoiser, SYSTEM.standardisation, (3,))

def posterior(length=32):
    prior = untrained()
    operator = sda.Every(8, sda.Channels((0,)))
    truth = sda.simulate(jax.random.key(0), SYSTEM, length)
    observation = sda.observe(jax.random.key(1), truth, operator, std=0.4)
    return np.asarray(
        sda.assimilate(
            jax.random.key(2), prior, observation, length, 8, None, SAMPLER, sda.Memory(8)
        )
    )

def simulated():  # of a system that is not chaotic
    return sda.simulate(jax.random.key(7), sda.VectorAutoregression(), 32, 8)

def weights(folder, shard=False):
    training = dataclasses.replace(TRAINING, shard_optimiser=shard)
    network, units = TemporalConv(width=8, dilations=(1, 2)), SYSTEM.standardisation
    blank = NetworkDenoiser(network, None, sda.Cosine(), Preconditioned())
    validation = sda.simulate(jax.random.key(3), SYSTEM, 16, 8)[None]
    found = train(blank, FromSimulator(SYSTEM), validation, units, training, folder)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found.variables)]
"""


SECTIONS = {
    "posteriors": """
one, paths = posterior(), simulated()
print(json.dumps([float(np.abs(one).max()), float(one.std(0).min())]))
with sda.use_mesh(2, 4):
    drawn, found = posterior(), simulated()
    shards = len(found.sharding.device_set)
print(json.dumps([float(np.abs(drawn - one).max()),
                  float(np.abs(np.asarray(found) - paths).max()), shards]))
""",
    "weights": """
folder = sys.argv[1]
one = weights(folder + "/one")
with sda.use_mesh(8):
    eight = weights(folder + "/eight", shard=True)
shutil.rmtree(folder + "/eight/checkpoints/10")
with sda.use_mesh(2):
    moved = weights(folder + "/eight", shard=True)
for many in (eight, moved):
    print(max(float(np.abs(a - b).max()) for a, b in zip(one, many)))
""",
    "moments": """
from sda_jax.prior._loop import make_block
from sda_jax.prior._train_state import init_state, shardings
from sda_jax.runtime._devices import sharding
network = TemporalConv(width=64, dilations=(1,))
blank = NetworkDenoiser(network, None, sda.Cosine(), Preconditioned())
source, key = FromSimulator(SYSTEM), jax.random.key(0)
learnt = []
for shard in (False, True):
    training = dataclasses.replace(TRAINING, shard_optimiser=shard)
    with sda.use_mesh(8):
        state = init_state(0, blank, source, training, (3,))
        state = jax.device_put(state, jax.tree.map(sharding, shardings(state, training)))
        state, _ = make_block(training, blank, SYSTEM.standardisation)(key, source, state, 2)
    parts = (state.optimiser, state.variables, state.averaged, state.source)
    held = [[leaf.addressable_data(0).size for leaf in jax.tree.leaves(part)] for part in parts]
    whole = [[leaf.size for leaf in jax.tree.leaves(part)] for part in parts]
    print(json.dumps([sum(a) / sum(b) for a, b in zip(held, whole)]))
    learnt.append([np.asarray(leaf) for leaf in jax.tree.leaves(state.variables)])
print(max(float(np.abs(a - b).max()) for a, b in zip(*learnt)))
""",
    "long": """
prior, length = untrained(), 2048
operator = sda.Every(8, sda.Channels((0,)))
observation = sda.Observation(jnp.zeros((length // 8, 1)), operator, std=0.4)

def compiled():
    denoiser = trajectory_denoiser(prior, length)
    posterior = sda.GaussianCovariance(4)(denoiser, observation.standardised(prior.standardisation))
    found = jax.jit(lambda key: draw(key, posterior, SAMPLER, (length, 3)))
    return found.lower(jax.random.key(0)).compile()

print(compiled().memory_analysis().temp_size_in_bytes)
with sda.use_mesh(1, 4):
    program = compiled()
print(program.memory_analysis().temp_size_in_bytes)
kinds = "(all-gather|all-to-all|collective-permute)"
found = re.findall(r"= \\S+?\\[([\\d,]*)\\]\\S* " + kinds, program.as_text())
print(json.dumps(found))
""",
    "windows": """
from sda_jax.posterior._assimilate import _draw
from sda_jax.networks import UNet
from sda_jax.prior._prior import Prior
from sda_jax.diffusion._spectral import SpectralPreconditioned
PLANE, UNITS = (4, 4, 2), sda.Standardisation()

def flow_prior():  # windows of 3 states, smooth in space and time, under an untrained network
    noise = np.random.default_rng(0).normal(size=(8, 14, *PLANE)).astype(np.float32)
    noise = noise + np.roll(noise, 1, axis=2)
    fitted = SpectralPreconditioned().fitted(noise[:, 1:] + 0.8 * noise[:, :-1], 3)
    network = UNet(channels=(4,), blocks=(1,), outputs=2)
    blank = NetworkDenoiser(network, None, sda.Cosine(), fitted)
    variables = jax.jit(lambda key: blank.init(key, (3, *PLANE)))(jax.random.key(4))
    return Prior(NetworkDenoiser(network, variables, sda.Cosine(), fitted), UNITS, PLANE, window=3)

PRIOR = flow_prior()

def compiled(length):  # the linear estimate of whole trajectories beside windows; Gibbs steps
    y = jax.random.normal(jax.random.key(5), (length, 2, 2, 2))
    observation = sda.Observation(y, sda.Coarsen(2), std=0.3)
    guidance = sda.GaussianCovariance(3, inflation=None, through_network=False)
    sampler = sda.PredictorCorrector(3, EVEN, sda.DPMSolverPP2M(), sda.Gibbs(1))
    posterior = guidance(trajectory_denoiser(PRIOR, length), observation)
    given = (jax.random.key(6), jnp.arange(2), posterior, UNITS)
    program = _draw.lower(*given, sampler, (length, *PLANE)).compile()
    return program, lambda: np.asarray(program(*given, sampler)[0])

def pulled():  # gradient through windows
    denoiser = trajectory_denoiser(PRIOR, 128)
    x = jax.random.normal(jax.random.key(7), (128, *PLANE))
    loss = lambda x: jnp.sum(denoiser(x, jnp.float32(0.5)) ** 3)
    return np.asarray(jax.jit(jax.grad(loss))(x))

program, draw = compiled(128)
one, slope, size = draw(), pulled(), program.memory_analysis().temp_size_in_bytes
with sda.use_mesh(2, 2):
    program, draw = compiled(128)
    many, longer = draw(), compiled(256)[0]
with sda.use_mesh(1, 4):
    slopes = pulled()
print(size, program.memory_analysis().temp_size_in_bytes)
for a, b in ((one, many), (slope, slopes)):
    print(json.dumps([float(np.abs(a).max()), float(np.abs(a - b).max())]))
kinds = "(all-gather|all-to-all|collective-permute|all-reduce)"
for text in (program.as_text(), longer.as_text()):
    print(json.dumps(re.findall(r"= \\S+?\\[([\\d,]*)\\]\\S* " + kinds, text)))
""",
    "tiles": """
from sda_jax.core._component import component
from sda_jax.data import Tiling
from sda_jax.diffusion import ComposedDenoiser, TiledDenoiser
from sda_jax.networks import UNet
from sda_jax.runtime._devices import over_batch

network = UNet(channels=(8,), blocks=(1,), forcing=None, periodic=(False, False))
blank = NetworkDenoiser(network, None, sda.Cosine(), Preconditioned())
variables = jax.jit(lambda key: blank.init(key, (3, 8, 8, 1)))(jax.random.key(0))
windows = NetworkDenoiser(network, variables, sda.Cosine(), Preconditioned())
tiled = TiledDenoiser(windows, Tiling.of((8, 8), (True, False)))  # 5 x 3 tiles
DENOISER = ComposedDenoiser(tiled, 3)
T = jnp.float32(0.5)
X = jax.random.normal(jax.random.key(1), (2, 20, 20, 16, 1))
KEYS = jax.random.split(jax.random.key(2), 2)

def everything(denoiser):
    loss = lambda x: jnp.sum(over_batch(lambda x: denoiser(x, T), x) ** 3)
    value, gradient = jax.value_and_grad(loss)(X)
    times = over_batch(lambda x: denoiser.covariance_times(x, T), X)
    drawn = over_batch(lambda key: denoiser.draw_error(key, X.shape[1:], T), KEYS)
    return value / 1e3, gradient, times, drawn

def found():
    return [np.asarray(a) for a in jax.tree.leaves(jax.jit(everything)(DENOISER))]

def working():
    evaluated = jax.jit(lambda denoiser, x: denoiser(x, T))
    return evaluated.lower(tiled, X[0, :3]).compile().memory_analysis().temp_size_in_bytes

one, size = found(), working()
for mesh in ((1, 1, 8), (2, 2, 2)):
    with sda.use_mesh(*mesh):
        many, less = found(), working()
    print(json.dumps([less / size, *(float(np.abs(a - b).max()) for a, b in zip(one, many))]))
""",
    "refused": """
with sda.use_mesh(4, 2):
    for wrong in (lambda: posterior(65), lambda: sda.simulate(jax.random.key(0), SYSTEM, 4, 6)):
        try:
            wrong()
        except sda.ConfigError as error:
            print(error)
""",
}
RUN = """
printed = {}
for name, code in json.loads(sys.stdin.read()).items():
    lines = io.StringIO()
    try:
        with contextlib.redirect_stdout(lines):
            exec(code, dict(globals()))
    except Exception:
        traceback.print_exc(file=lines)
    printed[name] = lines.getvalue()
    jax.clear_caches()
print(json.dumps(printed))
"""


LONG = {"weights", "windows", "tiles"}  # to compile


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """What a section prints; those of a group are computed together."""

    @cache
    def group(long):
        sections = {name: code for name, code in SECTIONS.items() if (name in LONG) == long}
        return _printed(sections, tmp_path_factory.mktemp("mesh"))

    def of(name):
        printed = group(name in LONG)[name]
        assert "Traceback" not in printed, printed
        return printed

    return of


def _printed(sections, folder):
    done = subprocess.run(
        [sys.executable, "-c", SETUP + RUN, str(folder)],
        input=json.dumps(sections),
        env=environment(8) | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},  # it computes hardly anything
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_posteriors_and_simulations_are_those_of_one_device(computed):
    out = computed("posteriors")
    (size, spread), (drawn, simulated, shards) = map(json.loads, out.splitlines())
    assert size > 5 and spread > 0.01
    assert drawn < 1e-3 * size  # reordered sums, ten evaluations later
    assert simulated < 1e-3 * size
    assert shards == 8


@pytest.mark.slow
def test_weights_are_those_of_one_device_and_a_checkpoint_moves(computed):
    """Ten steps on one device, on 8, and on 8 up to a checkpoint from which 2 go on, both sharing
    the optimiser's moments."""
    out = computed("weights")
    assert len(out.split()) == 2
    for difference in map(float, out.split()):
        assert difference < 1e-4  # of weights of order 0.1 that moved by 1e-3 a step


def test_devices_keep_a_share_of_the_optimisers_moments(computed):
    out = computed("moments")
    plain, shared, apart = map(json.loads, out.splitlines())
    assert plain[:3] == [1, 1, 1] and shared[1:3] == [1, 1]
    assert shared[0] < 0.15  # an eighth, and what is too small to share
    assert plain[3] == shared[3] < 0.2
    assert apart < 1e-4  # weights after two steps


def test_a_long_trajectory_is_never_gathered(computed):
    """The compiled sampler of 2048 states on 4 devices exchanges edges only, and its working memory
    falls with the devices."""
    out = computed("long")
    one, four, found = out.splitlines()
    assert int(four) < 0.4 * int(one)
    exchanges = json.loads(found)
    assert exchanges
    for shape, kind in exchanges:
        assert kind == "collective-permute"
        assert np.prod([int(n) for n in re.findall(r"\d+", shape)] or [1]) < 2048 * 3 / 2


@pytest.mark.slow
def test_windows_along_time_exchange_edges_only(computed):
    """Composed windows, the linear estimate of whole trajectories, Gibbs steps and gradients give
    what they give on one device; nothing of the length of a trajectory is exchanged."""
    out = computed("windows")
    memory, *differences, short, long = out.splitlines()
    one, four = map(int, memory.split())
    assert four < 0.4 * one
    for size, difference in map(json.loads, differences):
        assert size > 0.5 and difference < 1e-4 * size
    volumes = []
    for found in (json.loads(short), json.loads(long)):
        sizes = [(kind, np.prod([int(n) for n in re.findall(r"\d+", s)])) for s, kind in found]
        assert {kind for kind, _ in sizes} == {"collective-permute", "all-reduce"}
        assert all(size == 1 for kind, size in sizes if kind == "all-reduce")  # mean squares
        volumes.append(sum(size for _, size in sizes))
    assert volumes[0] == volumes[1]


@pytest.mark.slow
def test_tiles_are_shared(computed):
    """Denoisers, gradients and errors of windows of 15 tiles, on 8 devices along space and on 2 of
    8, and memory."""
    eight, two = map(json.loads, computed("tiles").splitlines())
    assert eight[0] < 0.3 and two[0] < 0.7
    assert max(eight[1:] + two[1:]) < 1e-4  # of numbers of order 1


def test_what_a_mesh_cannot_share(computed):
    with pytest.raises(ConfigError, match=r"mesh: got 64 x 2 .* devices"), sda.use_mesh(64, 2):
        pass
    with pytest.raises(ConfigError, match=r"mesh.batch.*at least 1"):
        sda.use_mesh(0)
    out = computed("refused")
    first, second = out.splitlines()
    assert "length: got 65; expected a multiple of 2" in first
    assert "expected a multiple of 4, the mesh's devices along batch" in second
