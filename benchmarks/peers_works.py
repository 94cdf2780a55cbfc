"""What `peers.py` times: the same networks in Flax and in PyTorch, and what is done with them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers_torch as peers
import torch

import sda_jax as sda
from sda_jax.core._units import Standardisation
from sda_jax.data._sources import FromArray
from sda_jax.diffusion._composition import ComposedDenoiser
from sda_jax.diffusion._denoisers import NetworkDenoiser
from sda_jax.posterior._assimilate import guided
from sda_jax.prior._loop import make_block
from sda_jax.prior._train_state import init_state
from sda_jax.samplers._driver import draw_members

CLOSE = 1e-4  # largest difference of outputs, in their standard deviation
STD, GAMMA = 0.3, 1e-2
SCHEDULE = sda.Exponential(peers.ETA)
DRAW = jax.jit(draw_members, static_argnames="shape")
MEAN = jax.jit(lambda denoiser, x, t: jax.vmap(lambda x: denoiser(x, t))(x))
Run = Callable[[], Any]
Entry = tuple[str, str, Run]  # work, competitor, a run that has ended when it returns
# kind, what a run's time is divided by, competitors
Contest = tuple[str, int, Callable[[], list[Entry]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A network and what is done with it: `members` trajectories of `length` states, observed."""

    network: Any
    window: int | None
    state: tuple[int, ...]
    length: int
    members: int
    batch: int
    segment: int
    operator: Any
    see: peers.See
    row: float  # squared norm of the operator's rows
    evaluations: int
    block: int

    @property
    def half(self) -> bool:
        """Whether the network computes in bfloat16."""
        return getattr(self.network, "dtype", "float32") == "bfloat16"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, *self.state)

    @property
    def ours(self) -> str:
        """This package, with its precision."""
        return "sda_jax, bfloat16" if self.half else "sda_jax"

    @property
    def same(self) -> str:
        """PyTorch in our precision."""
        return "PyTorch, bfloat16" if self.half else "PyTorch"

    @property
    def precisions(self) -> list[tuple[str, bool]]:
        """PyTorch's that are timed, and whether they are bfloat16."""
        both = [("PyTorch", False), ("PyTorch, bfloat16", True)]
        return both[: 1 if jax.default_backend() == "cpu" else 2]


def coarse(cells: int) -> peers.See:
    """Every 4th state's averages over blocks, as `Every(4, Coarsen(cells))`."""

    def see(x: torch.Tensor) -> torch.Tensor:
        m, states, nx, ny, channels = x[:, ::4].shape
        blocks = x[:, ::4].reshape(m, states, nx // cells, cells, ny // cells, cells, channels)
        return blocks.mean((3, 5)).flatten(1)

    return see


@functools.cache
def problem(name: str, tiny: bool) -> Problem:
    """The flow's or Lorenz's network and sizes for this device."""
    gpu = jax.default_backend() != "cpu"
    if name == "lorenz":
        net = sda.TemporalConv(64, (1, 2, 4, 8, 8, 4, 2, 1), max_frequency=32.0)
        members, batch = (1024, 64) if gpu else (64, 32)
        operator = sda.Every(8, sda.Channels((0,)))
        found = Problem(
            net, None, (3,), 65, members, batch, 64, operator,
            lambda x: x[:, ::8, :1].flatten(1), 1.0, 64 if gpu else 16, 200 if gpu else 16,
        )  # fmt: skip
        if tiny:
            net = sda.TemporalConv(8, (1, 2), max_frequency=32.0)
            found = dataclasses.replace(found, network=net, length=17, members=2, segment=16)
    else:
        net = sda.UNet((32, 64, 96), (1, 1, 2), max_frequency=32.0)
        size, batch, cells = 32, 16, 2
        if gpu and not tiny:
            net = sda.UNet((64, 128, 256), (2, 2, 2), max_frequency=32.0, dtype="bfloat16")
            size, batch, cells = 64, 64, 4
        if tiny:
            net, size = sda.UNet((8, 16), (1, 1), max_frequency=32.0), 8
        found = Problem(
            net, 5, (size, size, 2), 9 if tiny else 29, 1, batch, 5,
            sda.Every(4, sda.Coarsen(cells)), coarse(cells), 1 / cells**2,
            32 if gpu else 8, 50 if gpu else 4,
        )  # fmt: skip
    if tiny:
        found = dataclasses.replace(found, batch=2, evaluations=2, block=2)
    return found


class Both:
    """A problem's network in Flax and in PyTorch, of the same weights, and what uses it."""

    def __init__(self, given: Problem) -> None:
        self.given = given
        self.device = torch.device("cpu" if jax.default_backend() == "cpu" else "cuda")
        segment = (given.window or given.segment, *given.state)
        full = given.network.clone(dtype="float32") if given.half else given.network
        self.flax = NetworkDenoiser(full, None, SCHEDULE, sda.Preconditioned())
        weights = jax.jit(self.flax.init, static_argnums=1)(jax.random.key(0), segment)
        self.flax = dataclasses.replace(self.flax, variables=perturbed(weights))
        net = peers.network(full, self.flax.variables, given.window, given.state[-1])
        if self.device.type == "cuda" and given.window is not None:
            net = net.to(memory_format=torch.channels_last)
        self.net = net.to(self.device)
        self.seen = sda.Observation(self._y(), given.operator, std=STD)
        self.y = torch.from_numpy(self._y()).reshape(1, -1).to(self.device)
        self._agree()
        if given.half:
            self.flax = dataclasses.replace(self.flax, network=given.network)

    def _y(self) -> np.ndarray:
        blank = jax.ShapeDtypeStruct(self.given.shape, jnp.float32)
        y = jax.eval_shape(self.given.operator, blank)
        return np.random.default_rng(0).normal(size=y.shape).astype(np.float32)

    @property
    def ours(self) -> Any:
        """Our denoiser of trajectories."""
        window = self.given.window
        return self.flax if window is None else ComposedDenoiser(self.flax, window)

    @property
    def sda(self) -> Any:
        """Our posterior's denoiser with the guidance that PyTorch has been given."""
        return guided(self.ours, self.seen, sda.SDA(gamma_obs=GAMMA * self.given.row))

    def guided(self, mean: Callable[..., Any]) -> Callable[..., Any]:
        """PyTorch's."""
        variance = STD**2, GAMMA * self.given.row
        return functools.partial(peers.guided, mean, self.y, self.given.see, variance)

    def mean(self, frozen: bool = False) -> peers.Mean:
        """PyTorch's denoiser of trajectories; `frozen` weights have no gradient."""
        made = peers.Mean(peers.Trajectories(self.net, self.given.window))
        return made.requires_grad_(not frozen)

    def levels(self, times: Any) -> torch.Tensor:
        """Rows of mu, sigma and the network's level."""
        columns = (
            SCHEDULE.mu(times),
            SCHEDULE.sigma(times),
            self.flax.parameterisation.level(SCHEDULE, times),
        )
        return torch.from_numpy(np.stack(columns, -1)).to(self.device)

    def _agree(self) -> None:
        """Raises `ValueError` unless both networks give the same, guided and not."""
        torch.backends.cudnn.allow_tf32 = False
        x = np.random.default_rng(1).normal(size=(2, *self.given.shape)).astype(np.float32)
        at = torch.from_numpy(x).to(self.device)
        mean = self.mean()
        means = {"posterior mean": (self.ours, mean), "guided": (self.sda, self.guided(mean))}
        for label, (a, b) in means.items():
            for t in (0.2, 0.6):
                with jax.default_matmul_precision("highest"):
                    ours = np.asarray(MEAN(a, x, t))
                row = self.levels(jnp.asarray(t)).unbind()
                theirs = (b(at, *row) if b is mean else b(at, row)).detach().cpu().numpy()
                gap = np.abs(ours - theirs).max() / ours.std()
                print(f"{label}, t = {t}: differs by {gap:.1e}", flush=True)
                if not gap < CLOSE:
                    raise ValueError(f"{label} at t = {t} differs by {gap:.1e} of its deviation")
        torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # as JAX does on a GPU

    def draws(self, posterior: Any, predictor: Any) -> Run:
        """Draws of ours, without a corrector."""
        g = self.given
        sampler = sda.PredictorCorrector(g.evaluations, sda.EvenTime(), predictor, sda.Langevin(0))
        given = jax.random.key(0), jnp.arange(g.members), posterior, sampler, g.shape
        return lambda: jax.block_until_ready(DRAW(*given))

    def loops(self, through: bool, half: bool, mode: str | None = None) -> Run:
        """PyTorch's loop over noise levels; `mode` is that of its compilation, None for none."""
        mean: Any = self.mean(frozen=mode is not None)
        mean = mean if mode is None else torch.compile(mean, mode=mode, dynamic=False)
        levels = self.levels(sda.EvenTime()(SCHEDULE, self.given.evaluations))
        evaluate = self.guided(mean) if through else lambda x, row: mean(x, *row)

        def run() -> None:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                x = torch.randn(self.given.members, *self.given.shape, device=self.device)
                peers.sample(evaluate, x, levels)
            wait()

        return run


def wait() -> None:
    """Until a GPU is ready."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def perturbed(variables: Any) -> Any:
    """Weights of which none is zero, the last convolution's small: guidance stays finite."""
    names = [n for n in variables["params"] if "Convolution" in n]
    last = max(names, key=lambda n: int(n.rsplit("_", 1)[1]))

    def moved(path: Any, leaf: Any) -> Any:
        seed = sum(ord(c) for c in jax.tree_util.keystr(path))
        leaf = leaf + 0.02 * jax.random.normal(jax.random.key(seed), leaf.shape)
        return leaf * (0.1 if path[1].key == last else 1)

    return jax.tree_util.tree_map_with_path(moved, variables)


def training(g: Problem, both: Callable[[], Both]) -> Iterator[Contest]:
    """Steps of AdamW."""
    data = np.random.default_rng(2).normal(size=(64, 64, *g.state)).astype(np.float32)
    segments = f"segments of {g.segment} states" if g.window is None else "windows"
    work = f"training step of {g.batch} {segments}"

    @functools.cache
    def ours() -> Entry:
        setting = sda.Training(
            steps=10**6, batch=g.batch, segment=g.segment, times=sda.LogNormalRatio(-1.2, 1.8)
        )
        source, key = FromArray(jnp.asarray(data)), jax.random.key(0)
        state = [init_state(0, both().flax, source, setting, g.state)]
        block = make_block(setting, both().flax, Standardisation())

        def run() -> None:
            state[0], losses = block(key, source, state[0], g.block)
            jax.block_until_ready(losses)

        return work, g.ours, run

    def theirs(label: str, half: bool, compiled: bool = False) -> Entry:
        at = torch.from_numpy(data).to(both().device)
        steps = peers.training(both().net, at, g.batch, g.segment, compiled, half)
        return work, label, lambda: (steps(g.block), wait())

    yield "eager", g.block, lambda: [ours(), *(theirs(*p) for p in g.precisions)]
    label = f"{g.same}, torch.compile"
    yield "compiled", g.block, lambda: [ours(), theirs(label, g.half, True)]


def sampling(g: Problem, both: Callable[[], Both], through: bool = False) -> Iterator[Contest]:
    """Evaluations of a sampler, `through` with the gradient of a likelihood."""
    what = "evaluation with gradient" if through else "evaluation"
    work = f"{what}, {g.members} x {g.length} states"

    def ours() -> Entry:
        posterior = both().sda if through else both().ours
        return work, g.ours, both().draws(posterior, sda.ExponentialIntegrator())

    def theirs(label: str, half: bool, mode: str | None = None) -> Entry:
        return work, label, both().loops(through, half, mode)

    yield "eager", g.evaluations, lambda: [ours(), *(theirs(*p) for p in g.precisions)]
    modes = {"compiled": ("torch.compile", "default")}
    if jax.default_backend() != "cpu" and not through:
        modes["CUDA graphs"] = ("torch.compile with CUDA graphs", "reduce-overhead")
    for kind, (label, mode) in modes.items():
        given = f"{g.same}, {label}", g.half, mode
        yield kind, g.evaluations, lambda given=given: [ours(), theirs(*given)]


def guidance(g: Problem, both: Callable[[], Both]) -> Iterator[Contest]:
    """Evaluations of samplers that azula has, too."""
    work = f", {g.members} x {g.length} states"
    theirs = "azula, bfloat16" if g.half else "azula"
    euler = sda.ExponentialIntegrator()
    mmps = sda.MMPS(2, limit=1e4)  # from the first level on
    methods = [("DDIM", "", None, euler), ("DPS", "", sda.DPS(0.1), sda.Ancestral())]
    methods.append(("MMPS", ", 2 iterations (2 VJPs)", mmps, euler))

    def entries() -> Iterator[Entry]:
        b = both()
        for name, detail, method, predictor in methods:
            posterior = b.ours if method is None else guided(b.ours, b.seen, method)
            yield name + work, g.ours + detail, b.draws(posterior, predictor)
        y = b.y.expand(g.members, -1)
        outputs = peers.Trajectories(b.net, g.window)

        def run(sampler: Any) -> None:
            with torch.autocast(b.device.type, torch.bfloat16, enabled=g.half):
                sampler(torch.randn(g.members, *g.shape, device=b.device))
            wait()

        for name, detail, sampler in peers.azula_samplers(outputs, y, g.see, STD, g.evaluations):
            yield name + work, theirs + detail, functools.partial(run, sampler)

    yield "eager", g.evaluations, lambda: list(entries())
