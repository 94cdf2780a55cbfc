"""Kolmogorov flow: two-dimensional turbulence driven by a sinusoidal force, by jax-cfd."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sda_jax.core._arrays import PRNGKey, State, Trajectory
from sda_jax.core._component import component
from sda_jax.core._errors import ConfigError, require_at_least, require_positive
from sda_jax.core._record import static
from sda_jax.core._units import Standardisation
from sda_jax.systems import _cfd as cfd
from sda_jax.systems._fields import coarsen, upsample

Velocity = Float[Array, "size size 2"]


@component
class KolmogorovFlow:
    """Incompressible Navier-Stokes flow on `[0, 2 pi]^2`, periodic, of density 1.

    `v' = -(v . grad) v - grad p + lap v / reynolds + forcing sin(wavenumber y) e_x - damping v`.
    The simulator's state is the velocity `(size, size, 2)` on a staggered grid (array axes x, y,
    component; each component on its cells' upper faces); the observed state is its average over
    blocks of `coarsening` by `coarsening`. Finite volumes of jax-cfd, explicit Euler in time,
    pressure by fast diagonalisation. Kochkov et al. (2021); settings of Rozet & Louppe (2023),
    section 4.2.

    Attributes:
        size: Grid points along each axis of the simulation, even.
        coarsening: Simulated points per observed one, along each axis; a divisor of `size`.
        dt: Time units between states.
        reynolds: Reynolds number, 1 over the viscosity.
        forcing: Magnitude of the force.
        damping: Linear drag, per time unit.
        wavenumber: Of the force, along y.
        max_velocity: Largest speed for which the inner step is stable.
        courant: Courant number of that speed.
        initial_velocity, initial_wavenumber: Largest speed and peak wavenumber of the random field
            that the spin-up starts from.
        spinup: States before the first kept one.
    """

    size: int = static(256)
    coarsening: int = static(4)
    dt: float = static(0.2)
    reynolds: float = static(1e3)
    forcing: float = 1.0
    damping: float = 0.1
    wavenumber: int = static(4)
    max_velocity: float = static(5.0)
    courant: float = static(0.5)
    initial_velocity: float = static(3.0)
    initial_wavenumber: float = static(4.0)
    spinup: int = static(64)

    def __post_init__(self) -> None:
        require_at_least("size", self.size, 4)
        if self.size % 2:
            raise ConfigError("size", self.size, "an even number", "Add or drop a grid point.")
        if self.coarsening < 1 or self.size % self.coarsening:
            raise ConfigError(
                "coarsening", self.coarsening, f"a divisor of size, {self.size}", "Change either."
            )
        for name in ("dt", "reynolds", "max_velocity", "courant"):
            require_positive(name, getattr(self, name))
        for name in ("initial_velocity", "initial_wavenumber"):
            require_positive(name, getattr(self, name))
        require_at_least("wavenumber", self.wavenumber, 0)
        require_at_least("damping", self.damping, 0)
        require_at_least("spinup", self.spinup, 0)

    @property
    def state_shape(self) -> tuple[int, ...]:
        points = self.size // self.coarsening
        return (points, points, 2)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Both axes are."""
        return (True, True)

    @property
    def standardisation(self) -> Standardisation:
        """None: at the default settings velocities have mean 0 and a standard deviation near 1."""
        return Standardisation(mean=(0.0, 0.0), std=(1.0, 1.0))

    @property
    def inner_steps(self) -> int:
        """Steps of the solver per state: the fewest that advection at `max_velocity` and
        `courant`, and explicit diffusion, allow."""
        grid = self.grid()
        stable = min(
            cfd.advection.stable_time_step(self.max_velocity, self.courant, grid),
            cfd.diffusion.stable_time_step(1 / self.reynolds, grid),
        )
        return math.ceil(self.dt / stable)

    def grid(self) -> cfd.grids.Grid:
        """The simulation's grid, as jax-cfd has it."""
        return cfd.grids.Grid((self.size, self.size), domain=((0, 2 * math.pi),) * 2)

    def _faces(self, s: Velocity) -> cfd.grids.GridVariableVector:
        grid = self.grid()
        boundary = cfd.boundaries.periodic_boundary_conditions(2)
        return tuple(
            cfd.grids.GridVariable(cfd.grids.GridArray(s[..., i], offset, grid), boundary)
            for i, offset in enumerate(grid.cell_faces)
        )

    def init(self, key: PRNGKey) -> Velocity:
        """A random divergence-free velocity; spin-up brings it to the flow's distribution."""
        with jax.default_matmul_precision("highest"):
            velocity = cfd.initial_conditions.filtered_velocity_field(
                key, self.grid(), self.initial_velocity, self.initial_wavenumber
            )
        return jnp.stack([u.data for u in velocity], axis=-1)

    def step(self, key: PRNGKey, s: Velocity) -> Velocity:
        """The velocity `dt` later; the key is not used, the flow being deterministic."""
        grid, inner = self.grid(), self.inner_steps
        force = cfd.forcings.sum_forcings(
            cfd.forcings.kolmogorov_forcing(grid, self.forcing, k=self.wavenumber),
            cfd.forcings.linear_forcing(grid, -self.damping),
        )
        advance = cfd.equations.semi_implicit_navier_stokes(
            density=1.0,
            viscosity=1 / self.reynolds,
            dt=self.dt / inner,
            grid=grid,
            forcing=force,
        )
        with jax.default_matmul_precision("highest"):
            velocity = cfd.funcutils.repeated(advance, inner)(self._faces(s))
        return jnp.stack([u.data for u in velocity], axis=-1)

    def state(self, s: Velocity) -> State:
        """Velocity averaged over blocks. It is not divergence-free on the coarse grid."""
        return coarsen(s, self.coarsening)

    def moved(self, key: PRNGKey, x: Trajectory) -> Trajectory:
        """A trajectory of observed states that is as likely as `x`: shifted by a random number of
        points along x, and of the force's wavelengths along y."""
        points = self.state_shape[0]
        wavelength = points // math.gcd(points, self.wavenumber)  # or several, in whole points
        key_x, key_y = jax.random.split(key)
        along_x = jax.random.randint(key_x, (), 0, points)
        along_y = wavelength * jax.random.randint(key_y, (), 0, points // wavelength)
        return jnp.roll(x, jnp.stack([along_x, along_y]), axis=(-3, -2))

    def lift(self, x: State) -> Velocity:
        """A divergence-free velocity whose block averages are near `x`: interpolated, then
        projected. Scales below the observed grid are missing from it."""
        with jax.default_matmul_precision("highest"):
            fine = self._faces(upsample(x, self.coarsening))
            velocity = cfd.pressure.projection(fine)
        return jnp.stack([u.data for u in velocity], axis=-1)
