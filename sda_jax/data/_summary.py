"""What was understood of files, for the user to confirm."""

from __future__ import annotations

from sda_jax.data._archive import Archive
from sda_jax.data._dataset import SPLITS
from sda_jax.data._survey import Survey, runs, stretches
from sda_jax.data._times import DAY


def summary(archive: Archive, survey: Survey, length: int) -> str:
    """What was understood of the files, for the user to confirm."""
    layout, roles = survey.layout, archive.roles
    count = len(archive.times)
    first, last = archive.times[0][[0, -1]]
    step = f"{layout.step:g} {layout.time_units}".rstrip()
    if layout.calendar is not None:
        step = f"{layout.step / DAY:g} days" if layout.step >= DAY else f"{layout.step:g} s"
    lines = [
        f"files: {len(archive.files.paths)}, {survey.states} states"
        + (f" in {count} trajectories" if count > 1 else ""),
        f"time: {layout.time}, every {step}, {layout.written(first)} to {layout.written(last)}",
    ]
    for axis in layout.axes:
        lines.append(
            f"space: {axis.name}, {len(axis.coordinates)} points, {axis.extent}, "
            + ("periodic" if axis.period is not None else "two ends")
        )
    lines += [f"channels along {d}" for d in roles.stacked]
    means, stds = survey.standardisation.mean, survey.standardisation.std
    units = survey.standardisation.transforms
    for c, (channel, mean, std) in enumerate(zip(layout.channels, means, stds, strict=True)):
        unit = channel.units if units is None or units[c] is None else f"as {units[c]}"
        lines.append(f"channel: {channel.label}, mean {mean:.5g}, std {std:.5g} {unit}".rstrip())
    if roles.left_out:
        lines.append(f"left out: {', '.join(roles.left_out)}")
    if layout.mask is not None:
        share = 1 - layout.valid.mean()
        lines.append(f"mask: {share:.1%} of each state never has a value")
    if layout.constants:
        lines.append(f"constants: {', '.join(c.name for c in layout.constants)}")
    lost, total = sum(b - a for _, a, b in survey.gaps), 0
    if lost:
        where = archive.place(survey.gaps[0][0], survey.gaps[0][1])
        lines.append(f"gaps: {lost} states miss values and are skipped (the first: {where})")
    for part in SPLITS if archive.files.test else SPLITS[:-1]:
        # of what is left for tests nothing is asked
        found = (stretches if part == "test" else runs)(archive, survey, part, length)
        used = sum(b - a for _, a, b in found)
        total += used
        many = f"{len(found)} stretch{'es' * (len(found) != 1)}"
        lines.append(f"{part}: {used} states in {many} of at least {length}")
    if rest := survey.states - lost - total:
        lines.append(
            f"not used: {rest} states between the parts, or in stretches shorter than {length} "
            "between gaps and breaks in time"
        )
    return "\n".join(lines)
