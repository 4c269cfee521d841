"""Makes tiny MACE models with random weights: ``python make_mace.py FOLDER`` in an environment with mace-torch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import mace  # first: it sets torch's unpickling switch, which e3nn 0.4.4 needs on import
import numpy as np
import torch
from e3nn import o3
from mace import modules

assert mace.__version__


def build(heads: list[str], embeddings: dict | None, kind: str = "ScaleShiftMACE", **more: object) -> torch.nn.Module:
    torch.manual_seed(3)
    model = getattr(modules, kind)(
        r_max=4.5,
        num_bessel=4,
        num_polynomial_cutoff=5,
        max_ell=1,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=2,
        hidden_irreps=o3.Irreps("8x0e + 8x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        atomic_energies=np.array([[-1.0 - i, -2.0 - i] for i in range(len(heads))]),
        avg_num_neighbors=8.0,
        atomic_numbers=[34, 51],
        correlation=2,
        gate=torch.nn.functional.silu,
        heads=heads,
        atomic_inter_scale=[25.0] * len(heads),
        atomic_inter_shift=[0.0] * len(heads),
        embedding_specs=embeddings,
        use_embedding_readout=embeddings is not None,
        **more,
    )
    return model.double()


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    folder = Path(sys.argv[1])
    torch.save(build(["Default"], None), folder / "plain.model")
    charge = {"total_charge": {"type": "categorical", "per": "graph", "num_classes": 5, "offset": 3, "emb_dim": 8}}
    torch.save(build(["PBE", "HSE06"], charge), folder / "charged.model")
    if importlib.util.find_spec("graph_longrange"):  # in the environment mace-polar
        update = {
            "potential_embedding_cls": "AgnosticChargeBiasedLinearPotentialEmbedding",
            "nonlinearity_cls": "MLPNonLinearity",
        }
        polar = {"atomic_multipoles_max_l": 1, "field_feature_max_l": 1, "fixedpoint_update_config": update}
        torch.save(build(["Default"], None, "PolarMACE", **polar), folder / "polar.model")
