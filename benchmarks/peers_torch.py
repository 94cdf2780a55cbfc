"""The networks, training and sampling of this package written in PyTorch, for `peers.py`.

Weights are copied from Flax: the networks have the same numbers, and give the same.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sda_jax as sda

ETA = 1e-3  # of the schedule `Exponential`: sigma/mu from ETA to 1/ETA
See = Callable[[Tensor], Tensor]  # trajectories (members, L, *S) -> what is seen, (members, D)


class NoiseEmbedding(nn.Module):
    """Sines and cosines of the noise level, and a perceptron."""

    def __init__(self, out: int, max_frequency: float) -> None:
        super().__init__()
        frequencies = math.pi / 2 * max_frequency ** torch.linspace(0, 1, 16)
        self.register_buffer("frequencies", frequencies)
        self.hidden, self.out = nn.Linear(32, 256), nn.Linear(256, out)
        self.scopes = {"Dense_0": self.hidden, "Dense_1": self.out}

    def forward(self, level: Tensor) -> Tensor:
        phase = level[:, None] * self.frequencies
        h = torch.cat([phase.cos(), phase.sin()], dim=-1)
        return self.out(F.silu(self.hidden(h)))


def normalised(h: Tensor) -> Tensor:
    """Each point's channels, the second axis, with mean 0 and variance 1."""
    return F.layer_norm(h.movedim(1, -1), h.shape[1:2], eps=1e-6).movedim(-1, 1)


class Periodic(nn.Conv2d):
    """A convolution on a periodic plane. Padded by concatenation: PyTorch's own circular padding is
    many small copies, and forgets that channels are last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        n = self.kernel_size[0] // 2
        x = torch.cat([x[:, :, -n:], x, x[:, :, :n]], dim=2)
        return super().forward(torch.cat([x[..., -n:], x, x[..., :n]], dim=3))


class ResidualBlock(nn.Module):
    """`h + conv(silu(conv(norm(h + linear(embedding)))))`."""

    def __init__(self, width: int, embedding: int, conv: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.modulation = nn.Linear(embedding, width)
        self.first, self.second = conv(width, width), conv(width, width)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        modulation = self.modulation(e).reshape(*h.shape[:2], *(1,) * (h.ndim - 2))
        return h + self.second(F.silu(self.first(normalised(h + modulation))))


class UNet(nn.Module):
    """`sda_jax.UNet` of windows on a periodic plane, `(batch, window, x, y, channel)`."""

    def __init__(self, like: sda.UNet, window: int, components: int) -> None:
        super().__init__()
        self.forcing = like.forcing

        def conv(i: int, o: int, stride: int = 1) -> nn.Module:
            return Periodic(i, o, like.kernel, stride)

        def blocks(width: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualBlock(width, like.embedding, conv) for _ in range(count))

        flat, levels = window * components, list(zip(like.channels, like.blocks, strict=True))
        widths = [flat + (like.forcing is not None), *like.channels]
        self.embedding = NoiseEmbedding(like.embedding, like.max_frequency)
        self.enter = nn.ModuleList(
            conv(widths[i], width, 2 if i else 1) for i, width in enumerate(like.channels)
        )
        self.down = nn.ModuleList(blocks(*level) for level in levels)
        self.up = nn.ModuleList(blocks(*level) for level in levels)
        self.rise = nn.ModuleList(
            conv(like.channels[i], like.channels[i - 1]) for i in reversed(range(1, len(levels)))
        )
        self.leave = conv(like.channels[0], flat)
        convolutions = [*self.enter, *self.rise, self.leave]
        self.scopes = {f"CircularConvolution_{i}": c for i, c in enumerate(convolutions)}
        self.scopes["NoiseEmbedding_0"] = self.embedding
        for way, parts in (("down", self.down), ("up", self.up)):
            for i, level in enumerate(parts):
                for j, block in enumerate(level):
                    block.scopes = {
                        "Dense_0": block.modulation,
                        "CircularConvolution_0": block.first,
                        "CircularConvolution_1": block.second,
                    }
                    self.scopes[f"{way}_{i}_{j}"] = block

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        batch, window, nx, ny, components = x.shape
        e = F.silu(self.embedding(level))
        h = x.permute(0, 1, 4, 2, 3).reshape(batch, window * components, nx, ny)
        if self.forcing is not None:
            y = 2 * math.pi * (torch.arange(ny, device=x.device) + 0.5) / ny
            force = torch.sin(self.forcing * y).to(h.dtype).expand(batch, 1, nx, ny)
            h = torch.cat([h, force], dim=1)
        if x.is_cuda:
            h = h.to(memory_format=torch.channels_last)
        skips = []
        for enter, down in zip(self.enter, self.down, strict=True):
            h = enter(h)
            for block in down:
                h = block(h, e)
            skips.append(h)
        skips.pop()
        for block in self.up[-1]:
            h = block(h, e)
        for rise, up in zip(self.rise, reversed(self.up[:-1]), strict=True):
            h = rise(F.interpolate(h, scale_factor=2.0, mode="nearest")) + skips.pop()
            for block in up:
                h = block(h, e)
        out = self.leave(h).float().reshape(batch, window, components, nx, ny)
        return out.permute(0, 1, 3, 4, 2)


class TemporalConv(nn.Module):
    """`sda_jax.TemporalConv`, `(batch, length, channel)`."""

    def __init__(self, like: sda.TemporalConv, components: int) -> None:
        super().__init__()

        def conv(i: int, o: int, dilation: int = 1) -> nn.Module:
            side = like.kernel // 2 * dilation
            return nn.Conv1d(i, o, like.kernel, padding=side, dilation=dilation)

        def block(dilation: int) -> ResidualBlock:
            return ResidualBlock(like.width, like.embedding, lambda i, o: conv(i, o, dilation))

        self.embedding = NoiseEmbedding(like.embedding, like.max_frequency)
        self.enter, self.leave = conv(components, like.width), conv(like.width, components)
        self.blocks = nn.ModuleList(block(d) for d in like.dilations)
        convolutions = [self.enter, *(c for b in self.blocks for c in (b.first, b.second))]
        convolutions.append(self.leave)
        self.scopes = {f"Convolution_{i}": c for i, c in enumerate(convolutions)}
        self.scopes |= {f"Dense_{i}": b.modulation for i, b in enumerate(self.blocks)}
        self.scopes["NoiseEmbedding_0"] = self.embedding

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        e = F.silu(self.embedding(level))
        h = self.enter(x.mT)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h).mT.float()


def load(module: Any, tree: Any) -> None:
    """Copies a Flax module's weights into the module that is written like it."""
    if isinstance(module, nn.Conv1d):  # one product of matrices in Flax
        tree = tree["Dense_0"]
    if "kernel" not in tree:
        if set(tree) != set(module.scopes):
            raise ValueError(f"{sorted(tree)} of Flax are not {sorted(module.scopes)} of PyTorch")
        for name, child in tree.items():
            load(module.scopes[name], child)
        return
    kernel = torch.from_numpy(np.array(tree["kernel"]))
    if isinstance(module, nn.Conv1d):
        kernel = kernel.reshape(module.kernel_size[0], -1, kernel.shape[-1])
    kernel = kernel.permute(*reversed(range(kernel.ndim)))
    if isinstance(module, nn.Conv2d):
        kernel = kernel.mT  # rows before columns
    with torch.no_grad():
        module.weight.copy_(kernel)
        module.bias.copy_(torch.from_numpy(np.array(tree["bias"])))


def network(like: Any, variables: Any, window: int | None, components: int) -> nn.Module:
    """A network in PyTorch with the weights of one in Flax."""
    if window is None:
        made: nn.Module = TemporalConv(like, components)
    else:
        made = UNet(like, window, components)
    load(made, variables["params"])
    return made


class Trajectories(nn.Module):
    """A network's outputs for whole trajectories `(members, L, *S)`, from those of its windows."""

    def __init__(self, inner: nn.Module, window: int | None) -> None:
        super().__init__()
        self.inner, self.window = inner, window

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        if self.window is None:
            return self.inner(x, level.expand(len(x)))
        count, k = x.shape[1] - self.window + 1, self.window // 2
        cut = torch.stack([x[:, i : i + count] for i in range(self.window)], dim=2).flatten(0, 1)
        out = self.inner(cut, level.expand(len(cut))).unflatten(0, (len(x), count))
        return torch.cat([out[:, 0, :k], out[:, :, k], out[:, -1, k + 1 :]], dim=1)


class Mean(nn.Module):
    """The posterior mean of trajectories, preconditioned for data of unit variance."""

    def __init__(self, outputs: Trajectories) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor, mu: Tensor, sigma: Tensor, level: Tensor) -> Tensor:
        scale = torch.rsqrt(mu**2 + sigma**2)
        return mu * scale**2 * x + sigma * scale * self.outputs(x * scale, level)


def guided(
    mean: Callable[..., Tensor],
    y: Tensor,
    see: See,
    variance: tuple[float, float],
    x: Tensor,
    level: Sequence[Tensor],
) -> Tensor:
    """The posterior mean given y, by the gradient of its Gaussian likelihood through the network.
    `variance` is that of the noise and what is added times (sigma/mu)^2."""
    mu, sigma, _ = level
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        x_hat = mean(x, *level)
        spread = variance[0] + variance[1] * (sigma / mu) ** 2
        likelihood = -((y - see(x_hat)) ** 2 / spread).sum() / 2
        (gradient,) = torch.autograd.grad(likelihood, x)
    return x_hat.detach() + sigma**2 / mu * gradient


def sample(evaluate: Callable[..., Tensor], x: Tensor, levels: Tensor) -> Tensor:
    """The exponential integrator (DDIM) down rows of mu, sigma and the network's level."""
    rows = [row.unbind() for row in levels.unbind()]
    for now, then in itertools.pairwise(rows):
        shrink = then[1] / now[1]
        x = shrink * x + (then[0] - shrink * now[0]) * evaluate(x, now)
    return x


def training(
    net: nn.Module,
    data: Tensor,
    batch: int,
    segment: int,
    compiled: bool = False,
    half: bool = False,
) -> Callable[[int], Tensor]:
    """A function that takes so many training steps and gives the last loss: what
    `sda_jax.prior._loop.make_block` does. The network given is left as it is."""
    net = copy.deepcopy(net).requires_grad_()  # guidance freezes what it shares
    averaged = [p.detach().clone() for p in net.parameters()]
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-3, fused=True)
    device, top = data.device, -math.log(ETA)
    states = torch.arange(segment, device=device)

    def loss(x: Tensor, noise: Tensor, u: Tensor) -> Tensor:
        logarithm = -1.2 + 1.8 * torch.special.ndtri(u)
        logarithm = logarithm.clamp(-top, top)
        ratio = logarithm.exp().reshape(-1, *(1,) * (x.ndim - 1))
        unit = torch.rsqrt(1 + ratio**2)
        seen = unit * (x + ratio * noise)
        target = unit * (ratio * x - noise)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            out = net(seen, (logarithm + top) / (2 * top))
        return ((out - target) ** 2).mean()

    objective = torch.compile(loss, dynamic=False) if compiled else loss

    def steps(count: int) -> Tensor:
        value = torch.zeros(())
        for _ in range(count):
            rows = torch.randint(len(data), (batch, 1), device=device)
            starts = torch.randint(data.shape[1] - segment + 1, (batch, 1), device=device)
            x = data[rows, starts + states]
            u = (torch.arange(batch, device=device) + torch.rand(batch, device=device)) / batch
            value = objective(x, torch.randn_like(x), u)
            optimiser.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            with torch.no_grad():
                torch._foreach_lerp_(averaged, list(net.parameters()), 1e-3)
        return value.detach()

    return steps


def azula_samplers(
    outputs: Trajectories, y: Tensor, see: See, std: float, steps: int
) -> Iterator[tuple[str, str, Any]]:
    """Samplers of azula with this network: method, detail, sampler."""
    from azula.denoise import KarrasDenoiser
    from azula.guidance import DPSSampler, MMPSDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler

    class Backbone(nn.Module):
        """The network with the logarithm of sigma/mu as its level, as azula has it."""

        def __init__(self) -> None:
            super().__init__()
            self.outputs = outputs

        def forward(self, x: Tensor, logarithm: Tensor) -> Tensor:
            return self.outputs(x, 0.5 - logarithm / (2 * math.log(ETA)))

    denoiser = KarrasDenoiser(Backbone(), VPSchedule(ETA, ETA))
    given: dict[str, Any] = {"steps": steps, "silent": True}
    yield "DDIM", "", DDIMSampler(denoiser, **given)
    yield "DPS", "", DPSSampler(denoiser, y, see, zeta=0.1, **given)
    noise = IsotropicCovariance(torch.tensor(std**2, device=y.device))
    for iterations, detail in ((1, ", 1 iteration (2 VJPs)"), (2, ", 2 iterations (3 VJPs)")):
        means = MMPSDenoiser(denoiser, y, see, noise, "cg", iterations)
        yield "MMPS", detail, DDIMSampler(means, **given)
