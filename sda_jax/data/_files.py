"""Which files hold the trajectories, and how they are to be taken."""

from __future__ import annotations

from dataclasses import dataclass

from sda_jax.core._errors import require_at_least, require_at_most, require_choice

LARGEST_TEST = 0.8  # share of the record, so that a tenth is left to train on


@dataclass(frozen=True)
class Files:
    """Files of trajectories. What is left out is guessed from CF conventions, and printed.

    Attributes:
        paths: NetCDF, HDF5 or Zarr, in any order.
        group: Inside each file.
        variables: Which become channels; empty for all that have the time dimension.
        time: The time dimension.
        space: The dimensions of space, at most two. Other dimensions become channels.
        trajectory: A dimension of independent trajectories.
        each: What several files are: parts of one record in "time", or a "trajectory" each.
        periodic: The dimensions of space that are periodic.
        missing: What happens where values are missing now and then: "refuse", or "skip" the states
            that have any. What is always missing is a mask, with either.
        constants: Variables along space alone, of the first file, that the network takes as
            context, such as orography.
        cycles: Phases of the time that it takes as context: "day", "year" or both.
        trend: Whether it takes the time itself, from -1 at the record's start to 1 at its end.
        transforms: Of variables, in which they are learnt: "precip=log:0.1" (a shifted logarithm),
            "runoff=boxcox:0.3", "cover=logit:-1:101" (between these bounds),
            "direction=circular:360" (an angle, as the cosine and the sine of it). Observations stay
            in physical units.
        split: Held out for validation and test: the last parts of the record's "time", or of the
            "trajectory" dimension; None for the latter from ten trajectories on. Validation has a
            tenth.
        test: Share of the record that nothing is measured on, for tests of your own; with 0 the
            prior knows all of it, up to its end.

    Raises:
        ConfigError: An unknown choice, or a share that leaves nothing to train on.
    """

    paths: tuple[str, ...] = ()
    group: str | None = None
    variables: tuple[str, ...] = ()
    time: str | None = None
    space: tuple[str, ...] | None = None
    trajectory: str | None = None
    each: str = "time"
    periodic: tuple[str, ...] | None = None
    missing: str = "refuse"
    constants: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()
    trend: bool = False
    transforms: tuple[str, ...] = ()
    split: str | None = None
    test: float = 0.1

    def __post_init__(self) -> None:
        require_choice("each", self.each, ("time", "trajectory"))
        require_choice("missing", self.missing, ("refuse", "skip"))
        if self.split is not None:
            require_choice("split", self.split, ("time", "trajectory"))
        require_at_least("test", self.test, 0)
        require_at_most("test", self.test, LARGEST_TEST)
