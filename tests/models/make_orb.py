"""Makes Orb weights with random numbers: ``python make_orb.py FOLDER`` in an environment with orb-models."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from orb_models.forcefield.pretrained import orb_v3_conservative_architecture

if __name__ == "__main__":
    torch.manual_seed(3)
    folder = Path(sys.argv[1]).resolve()
    torch.save(orb_v3_conservative_architecture().state_dict(), folder / "orb.ckpt")
    torch.save(orb_v3_conservative_architecture(has_charge_spin_cond=True, has_stress=False).state_dict(), folder / "orbmol.ckpt")
