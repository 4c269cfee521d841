"""How well models know the stiffness that a relaxation of the dataset has seen: which of them is good for ``run.py --hessian``.

    python scripts/reference/measure_hessian.py DATASET LEVEL DEFECT CHARGE CONFIGURATION MODEL [MODEL …]

Each model's Hessian H at the first frame is compared with DFT's forces there and at the last frame: ΔF should be −H·Δx. Printed are

* α, the factor that fits ΔF = −α H·Δx best: above 1 the model is too soft;
* |ΔF + α H·Δx| / |ΔF|;
* |x_last − x_Newton| / |x_last − x_first| for one step of Newton from the first frame, with the Hessian as CP2K gets it.
"""

from __future__ import annotations

import sys

import numpy as np
from reference_dft.hessian import model_hessian, stiffened

from defectbench.datasets.catalogue import load_dataset


def main(dataset: str, level: str, defect: str, charge: str, configuration: str, *models: str) -> None:
    """Prints a line per model."""
    frames = load_dataset(dataset).frames(defect, int(charge), configuration, level)
    first, last = frames[0], frames[-1]
    moved = (last.positions - first.positions).ravel()
    change = (last.get_forces() - first.get_forces()).ravel()
    print(f"{len(frames)} frames, |Δx| {np.linalg.norm(moved):.3f} Å, |ΔF| {np.linalg.norm(change):.3f} eV/Å")
    print("model  α  left of ΔF  left of the way after one step")
    for model in models:
        hessian = model_hessian(model)(first, int(charge))
        predicted = -hessian @ moved
        alpha = float(predicted @ change / (predicted @ predicted))
        left = np.linalg.norm(change - alpha * predicted) / np.linalg.norm(change)
        step = np.linalg.solve(stiffened(hessian), first.get_forces().ravel())
        print(f"{model}  {alpha:.2f}  {left:.2f}  {np.linalg.norm(moved - step) / np.linalg.norm(moved):.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
