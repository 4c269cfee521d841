"""Makes a tiny PET model with random weights: ``python make_upet.py FOLDER`` in an environment with upet."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from metatrain.pet import PET
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import get_energy_target_info

if __name__ == "__main__":
    torch.manual_seed(4)
    hypers = get_default_hypers("pet")["model"]
    hypers.update(d_pet=8, d_node=8, d_head=8, d_feedforward=8, num_heads=1, num_attention_layers=1, num_gnn_layers=1)
    targets = {"energy": get_energy_target_info("energy", {"quantity": "energy", "unit": "eV"}, add_position_gradients=True)}
    model = PET(hypers, DatasetInfo(length_unit="Angstrom", atomic_types=[34, 51], targets=targets))
    torch.save(model.get_checkpoint(), Path(sys.argv[1]).resolve() / "pet.ckpt")
