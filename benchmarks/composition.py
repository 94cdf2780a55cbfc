"""How the error of composing local denoisers falls with the window, on the stationary chain."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from common import record

import sda_jax as sda
from sda_jax.classical import exact_prior
from sda_jax.diffusion._composition import ComposedDenoiser
from sda_jax.diffusion._schedules import Cosine

LENGTH = 33
RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)
CHAIN = sda.VectorAutoregression()


def main() -> None:
    """RMS difference to the exact trajectory denoiser, relative to that denoiser's own error."""
    z = CHAIN.standardisation.forward(sda.simulate(jax.random.key(0), CHAIN, LENGTH, batch=512))
    noise = jax.random.normal(jax.random.key(1), z.shape)
    rows = ["| k | " + " | ".join(f"sigma/mu = {r}" for r in RATIOS) + " |"]
    rows.append("|---" * (len(RATIOS) + 1) + "|")
    whole = exact_prior(CHAIN, LENGTH).denoiser
    for k in (0, 1, 2, 4, 8, 12, 16):
        composed = ComposedDenoiser(exact_prior(CHAIN, 2 * k + 1).denoiser, 2 * k + 1)
        cells = []
        for ratio in RATIOS:
            t = Cosine().time(ratio)
            x = Cosine().mu(t) * z + Cosine().sigma(t) * noise
            a = jax.vmap(lambda x, t=t, f=composed: f(x, t))(x)
            b = jax.vmap(lambda x, t=t: whole(x, t))(x)
            cells.append(f"{float(jnp.sqrt(jnp.mean((a - b) ** 2) / jnp.mean((b - z) ** 2))):.2e}")
        rows.append(f"| {k} | " + " | ".join(cells) + " |")
    record(
        "composition",
        f"Composition of exact local denoisers, stationary chain, {LENGTH} states",
        "RMS difference between composed and exact posterior means, divided by the exact one's RMS "
        "error; 512 trajectories.\n\n" + "\n".join(rows),
    )


if __name__ == "__main__":
    main()
