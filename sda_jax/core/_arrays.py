"""Names of the arrays that functions take and give."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Array, Float, Key, PyTree, Shaped

PRNGKey = Key[Array, ""]
Scalar = Float[Array, ""] | float
Trajectory = Float[Array, "length *state"]
State = Float[Array, "*state"]
SimulatorState = PyTree[Shaped[Array, "..."]]
Time = Float[Array, ""] | float
Operator = Callable[[Trajectory], Float[Array, "..."]]
