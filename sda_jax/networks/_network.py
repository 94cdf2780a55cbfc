"""What the rest of the package asks of a network."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Array, PyTree

from sda_jax.core._arrays import PRNGKey


class Network(Protocol):
    """What the rest of the package asks of a network; a Linen module has both.

    `x` is `(*batch, L, *S)`, `level`, the noise level, `(*batch,)`, and `context`, what is known of
    each state beside its noisy values, None or `(*batch, L, *space, C)`.
    """

    def init(
        self, rngs: PRNGKey, x: Array, level: Array, context: Array | None
    ) -> PyTree[Array]: ...

    def apply(self, variables: Any, x: Array, level: Array, context: Array | None) -> Any: ...
