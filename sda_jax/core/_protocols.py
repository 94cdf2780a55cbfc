"""The contracts between the parts of the package."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
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


class Schedule(Protocol):
    """The perturbation kernel `p(x_t | x) = N(mu(t) x, sigma(t)^2 I)`, t from 0 to 1."""

    def mu(self, t: Time) -> Array: ...

    def sigma(self, t: Time) -> Array: ...

    def time(self, ratio: Scalar) -> Array:
        """The t at which `sigma(t) / mu(t)` equals `ratio`."""
        ...


class Denoiser(Protocol):
    """`denoiser(x_t, t) = E[x | x_t]` of one trajectory `(L, *S)` in standardised units."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x: Trajectory, t: Time) -> Trajectory: ...


class Guidance(Protocol):
    """Turns a denoiser of the prior into a denoiser of the posterior."""

    def __call__(self, denoiser: Denoiser, observation: Any) -> Denoiser: ...

    def vjps(self, observed: int, levels: np.ndarray) -> int:
        """Gradients through the network in evaluations at these sigma/mu, with `observed` elements
        of y."""
        ...


class Levels(NamedTuple):
    """The sigma/mu of evaluations of the denoiser.

    Attributes:
        guided: Of those that take the gradient of an observation.
        plain: Of those that take none.
    """

    guided: np.ndarray = np.empty(0)
    plain: np.ndarray = np.empty(0)

    def also(self, *others: Levels) -> Levels:
        """These and those of others."""
        return Levels(*map(np.concatenate, zip(self, *others, strict=True)))


class Sampler(Protocol):
    """Draws one sample of shape `shape` from the distribution that a denoiser stands for: at once,
    or by `begin`, `advance` as often as needed and `end`, between which a draw can be saved."""

    @property
    def steps(self) -> int: ...

    def __call__(self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]) -> Trajectory: ...

    def evaluations(self, schedule: Schedule) -> int:
        """Evaluations of the denoiser for one draw."""
        ...

    def levels(self, schedule: Schedule) -> Levels:
        """The sigma/mu of each of them."""
        ...

    def begin(
        self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]
    ) -> tuple[Trajectory, Any]:
        """The draw before its first step."""
        ...

    def advance(
        self,
        key: PRNGKey,
        denoiser: Denoiser,
        state: tuple[Trajectory, Any],
        first: Array | int,
        steps: int,
    ) -> tuple[tuple[Trajectory, Any], Array]:
        """The draw `steps` steps after step `first`, and whether it was finite after each."""
        ...

    def end(self, denoiser: Denoiser, state: tuple[Trajectory, Any]) -> Trajectory:
        """The sample that a draw has become after its last step."""
        ...

    def level(self, denoiser: Denoiser, step: Array | int) -> Array:
        """The sigma/mu that a step starts from."""
        ...

    def diverged_at(self, key: PRNGKey, denoiser: Denoiser, shape: tuple[int, ...]) -> Array:
        """The sigma/mu after whose step the draw of this key is no longer finite; NaN if it is."""
        ...
