"""Components, array aliases and the contracts between the parts of the package."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, dataclass_transform

import jax
import numpy as np
from jaxtyping import Array, Float, Key, PyTree, Shaped

PRNGKey = Key[Array, ""]
Scalar = Float[Array, ""] | float
Trajectory = Float[Array, "length *state"]
State = Float[Array, "*state"]
SimulatorState = PyTree[Shaped[Array, "..."]]
Time = Float[Array, ""] | float

T = TypeVar("T")


def static(default: Any = dataclasses.MISSING) -> Any:
    """A component's field that is structure, not a number: hashable and fixed when compiled."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def component(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen dataclass that is a JAX pytree.

    Its fields are its configuration. Fields declared with `static` are metadata: changing one
    compiles anew. All others are leaves (numbers, arrays, other components) and are traced, so
    that functions compiled for one value serve every value.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(cls)
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    statics = tuple(f.name for f in fields if f.metadata.get("static"))

    def structure(value: Any) -> tuple[Any, ...]:
        # with the class itself: tree structures of jax 0.10 compare equal for two dataclasses with
        # equal metadata, and compiled functions would now and then take one for the other
        return (cls, *(getattr(value, name) for name in statics))

    def flatten(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(value, name) for name in leaves), structure(value)

    def flatten_with_keys(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        named = ((jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in leaves)
        return tuple(named), structure(value)

    def unflatten(structure: tuple[Any, ...], children: Any) -> Any:
        value = object.__new__(cls)
        for name, child in zip((*leaves, *statics), (*children, *structure[1:]), strict=True):
            object.__setattr__(value, name, child)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def is_component(value: Any) -> bool:
    """Whether `value` is an instance (not a class) of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


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
    """Draws one sample of shape `shape` from the law that a denoiser stands for: at once, or by
    `begin`, `advance` as often as needed and `end`, between which a draw can be saved."""

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


Operator = Callable[[Trajectory], Float[Array, "..."]]
