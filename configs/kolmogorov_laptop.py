"""Kolmogorov flow on 32 x 32: the shipped prior `kolmogorov`.

python scripts/train.py --config configs/kolmogorov_laptop.py
"""

from kolmogorov_common import laptop

config = laptop()
