"""Makes a tiny GRACE (FS) model with random weights: ``python make_grace.py FOLDER`` in an environment with tensorpotential."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorpotential.potentials.presets import FS
from tensorpotential.tensorpot import TensorPotential

if __name__ == "__main__":
    tf.keras.utils.set_random_seed(5)
    folder = Path(sys.argv[1]).resolve()
    os.chdir(folder)
    instructions = FS(
        element_map={"Se": 0, "Sb": 1},
        rcut=4.5,
        lmax=[2, 1],
        Lmax=[None, 0],
        max_sum_l=[None, None],
        lmax_hist=[None, None],
        n_rad_base=5,
        n_rad_max=[5, 3],
        embedding_size=4,
        max_order=2,
        fs_parameters=((1.0, 1.0), (1.0, 0.5)),
    ).get_instructions()
    potential = TensorPotential(instructions, param_dtype=tf.float64, eager_mode=True)
    potential.save_model(exact_path=str(folder / "grace"))
