"""Kolmogorov flow on 64 x 64 as in the paper: data, budget, sampler, 22.9 million weights.

    python scripts/simulate.py --config configs/kolmogorov_paper.py
    python scripts/train.py --config configs/kolmogorov_paper.py
    python scripts/experiment.py --config configs/kolmogorov_paper.py --case extrapolation

For an accelerator: the data set has 2.1 GB, the network computes in bfloat16. The paper takes 512
steps for saturation (--assimilation.sampler.steps 512) and gamma 0.1 for the loop
(--assimilation.guidance.gamma-obs 0.1). Not run at this size so far.
"""

from kolmogorov_common import paper

config = paper()
