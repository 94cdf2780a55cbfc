"""The contracts between the parts of the package: what each asks of the others, and all of it.

Every one can be checked with `isinstance`, which looks for the members by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array

from sda_jax.core._arrays import PRNGKey, Scalar, SimulatorState, State, Time, Trajectory


@runtime_checkable
class System(Protocol):
    """A dynamical system, in physical units.

    It has a simulator state `s` and an observed state `x = state(s)` of shape `state_shape`,
    channels last; `lift` goes back where that is possible.
    """

    @property
    def state_shape(self) -> tuple[int, ...]: ...

    @property
    def spinup(self) -> int: ...

    @property
    def standardisation(self) -> Any: ...

    def init(self, key: PRNGKey) -> SimulatorState: ...

    def step(self, key: PRNGKey, s: SimulatorState) -> SimulatorState: ...

    def state(self, s: SimulatorState) -> State: ...

    def lift(self, x: State) -> SimulatorState: ...


@runtime_checkable
class GaussianSystem(System, Protocol):
    """A system whose observed state is its simulator's, with additive Gaussian noise."""

    @property
    def transition_std(self) -> Array: ...

    def forecast(self, x: State) -> State: ...

    def log_prob(self, x: State, x_next: State) -> Array: ...


@runtime_checkable
class Timed(Protocol):
    """A system that says how much time is between two states."""

    @property
    def dt(self) -> Any: ...


@runtime_checkable
class Symmetric(Protocol):
    """A system with symmetries, of which training makes use."""

    def moved(self, key: PRNGKey, x: Trajectory) -> Trajectory:
        """A trajectory that is as likely as `x`, in a random place."""
        ...


@runtime_checkable
class Wraps(Protocol):
    """A system on a grid that says which of its axes wrap around."""

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Of each axis of space."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """The perturbation kernel `p(x_t | x) = N(mu(t) x, sigma(t)^2 I)`, t from 0 to 1."""

    def mu(self, t: Time) -> Array: ...

    def sigma(self, t: Time) -> Array: ...

    def time(self, ratio: Scalar) -> Array:
        """The t at which the noise-to-signal ratio `sigma(t) / mu(t)` equals `ratio`."""
        ...


@runtime_checkable
class Grid(Protocol):
    """The times of a sampler's steps."""

    def __call__(self, schedule: Schedule, steps: int) -> Array:
        """`steps + 1` times, falling."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """`denoiser(x_t, t) = E[x | x_t]` of one trajectory `(L, *S)` in standardised units."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x: Trajectory, t: Time) -> Trajectory: ...


@runtime_checkable
class KnowsErrors(Protocol):
    """A denoiser that knows the covariance V of x given x_t, as a Gaussian has it."""

    def covariance_times(self, w: Trajectory, t: Time) -> Trajectory:
        """`V w`."""
        ...

    def draw_error(self, key: PRNGKey, shape: tuple[int, ...], t: Time) -> Trajectory:
        """A draw of `N(0, V)`, of shape `(L, *S)`."""
        ...


@runtime_checkable
class Conditional(Protocol):
    """A denoiser whose network takes context: what is known of each state beside x_t."""

    @property
    def context(self) -> Array | None: ...

    def conditioned(self, context: Array | None) -> Denoiser:
        """The denoiser conditioned on this context, standardised."""
        ...


@runtime_checkable
class Guidance(Protocol):
    """Turns a denoiser of the prior into a denoiser of the posterior, both of trajectories in
    standardised units; `observation.operator` takes these."""

    def __call__(self, denoiser: Denoiser, observation: Any) -> Denoiser: ...


@runtime_checkable
class DrawsPosterior(Protocol):
    """A posterior's denoiser that knows the whole distribution of the data given x_t and y."""

    def draw(self, key: PRNGKey, x: Trajectory, t: Time) -> Trajectory:
        """A draw of it."""
        ...


@runtime_checkable
class ExplainsObservation(Protocol):
    """A posterior's denoiser that says how well a noisy trajectory explains y."""

    @property
    def observation(self) -> Any: ...

    def fit(self, x: Trajectory, t: Time) -> Array:
        """In nats, up to a constant."""
        ...


@runtime_checkable
class LikelihoodGuidance(Guidance, Protocol):
    """Guidance that knows `log p(y | x_t)` itself, not only its gradient; particles are weighed by
    it."""

    def twist(
        self, denoiser: Denoiser, observation: Any, x: Trajectory, t: Time
    ) -> tuple[Trajectory, Trajectory]:
        """`E[x | x_t]` and the gradient."""
        ...

    def log_twist(self, denoiser: Denoiser, observation: Any, x_hat: Trajectory, t: Time) -> Array:
        """The logarithm, where `E[x | x_t] = x_hat`."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """A step down the noise levels, of a predictor-corrector sampler."""

    def init(self, x: Trajectory) -> Any:
        """What it remembers before its first step."""
        ...

    def step(
        self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time, s: Time, memory: Any
    ) -> tuple[Trajectory, Any]:
        """From time t to s < t, and what it remembers then."""
        ...


@runtime_checkable
class Corrector(Protocol):
    """Moves x_t within its distribution at one noise level."""

    def active(self, schedule: Schedule, t: Time) -> Array:
        """Whether it moves x at time t."""
        ...

    def __call__(self, key: PRNGKey, denoiser: Denoiser, x: Trajectory, t: Time) -> Trajectory: ...


class SamplerState(NamedTuple):
    """A draw under way.

    Attributes:
        x: The noisy trajectory x_t `(L, *S)`, or those of an island of members, which lead.
        ratio: Its noise-to-signal ratio sigma/mu.
        memory: What the sampler remembers from step to step, a pytree of arrays.
    """

    x: Trajectory
    ratio: Array
    memory: Any = ()


@runtime_checkable
class Sampler(Protocol):
    """Draws from the distribution that a denoiser stands for, step by step.

    The driver (`sda_jax.samplers.draw`, `assimilate`) calls `init`, `step` for i = 0 ... steps - 1
    and `finish`, each with the same key, which the sampler folds with i itself; between two steps a
    draw can be saved.
    """

    @property
    def steps(self) -> int: ...

    def init(self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]) -> SamplerState:
        """The draw of shape `(L, *S)` before its first step."""
        ...

    def step(
        self, key: PRNGKey, denoiser: Denoiser, state: SamplerState, i: Array | int
    ) -> SamplerState:
        """The draw after step i."""
        ...

    def finish(self, denoiser: Denoiser, state: SamplerState) -> Trajectory:
        """The sample that a draw has become after its last step."""
        ...


@runtime_checkable
class PopulationSampler(Sampler, Protocol):
    """A sampler that steps `island` members together, which may be weighed and resampled.

    What `finish` gives has the members as leading axis, and so has its `SamplerState.x`, behind
    which more particles may follow; `init` is still given the shape of one. Members of an island
    depend on each other; islands are independent, and the same whatever chunk and devices are.
    """

    @property
    def island(self) -> int: ...


@runtime_checkable
class Prepares(Protocol):
    """A denoiser that computes once a draw what does not depend on what it denoises."""

    def prepared(self, shape: tuple[int, ...]) -> Denoiser:
        """Itself, for trajectories `(L, *S)`, with what was computed."""
        ...


@runtime_checkable
class Reports(Protocol):
    """A sampler that says how its draws went, for the diagnosis of an ensemble."""

    def report(self, state: SamplerState) -> dict[str, Array]:
        """After the last step, of one island: its `log_evidence` by search and group, its least
        effective sample size `effective`, its share of `distinct` members, the `error` of their
        mean, as a share of the spread, and their `separation`."""
        ...


@runtime_checkable
class Skips(Protocol):
    """A sampler some of whose steps may turn out not to be needed."""

    def upcoming(self, state: SamplerState, step: int) -> Array:
        """The first step from `step` on that changes this state, or one of several: a number."""
        ...


@runtime_checkable
class Adapts(Protocol):
    """What stands for a sampler that depends on what is drawn."""

    def fitted(
        self, posterior: Denoiser, samples: int, shape: tuple[int, ...], chunk: int | None
    ) -> Sampler:
        """The sampler of so many members of trajectories `(L, *S)` of this posterior, `chunk` of
        them at once."""
        ...
