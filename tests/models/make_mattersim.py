"""Makes a tiny MatterSim model with random weights: ``python make_mattersim.py FOLDER`` in an environment with mattersim."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
from mattersim.forcefield.potential import Potential
from torch_ema import ExponentialMovingAverage

if __name__ == "__main__":
    torch.manual_seed(2)
    model = M3Gnet(num_blocks=2, units=16, max_l=3, max_n=3, cutoff=5.0, threebody_cutoff=4.0, device="cpu")
    optimizer = torch.optim.Adam(model.parameters())
    ema = ExponentialMovingAverage(model.parameters(), decay=0.99)
    potential = Potential(model, optimizer=optimizer, ema=ema, device="cpu", model_name="m3gnet")
    potential.save(str(Path(sys.argv[1]).resolve() / "mattersim.pth"))
