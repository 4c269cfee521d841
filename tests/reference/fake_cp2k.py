"""Mimics CP2K's files for atoms on springs, step by step, so that runs can be cut off, fail and be continued within a test.

Energy: of a spring along x between the first and the second atom, so that forces add up to zero; a relaxation is a walk of the second to
``FAKE_CP2K_SITE`` (its x, Å, while the first is at 1 Å, where it stays), moved by ``FAKE_CP2K_SPLIT`` Å a charge. Behaviour is chosen by
environment variables:

- ``FAKE_CP2K_SECONDS``: pause before each energy.
- ``FAKE_CP2K_DIE_AT``: exits without a word in the middle of writing this optimiser step, once per task folder.
- ``FAKE_CP2K_DIE_ALWAYS``: exits before the first energy, every time.
- ``FAKE_CP2K_NO_SCF``: names of minimizers (comma-separated) that do not reach self-consistency, from ``FAKE_CP2K_NO_SCF_AT`` (step) on.
- ``FAKE_CP2K_ABORT``: stops with this message in an abort box.
- ``FAKE_CP2K_STEPS``: stops after so many steps as if the step limit had been reached.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

SPRING = 0.5  # hartree/Å²
BOHR = 0.529177210544
HARTREE = 27.211386024367243


def main() -> int:
    text = Path("input.inp").read_text()
    out = Path("out").open("w")  # noqa: SIM115  # stays open until the process dies
    relax = "RUN_TYPE GEO_OPT" in text
    with_forces = not re.search(r"RUN_TYPE ENERGY\b", text)
    minimizer = re.search(r"MINIMIZER (\S+)|ALGORITHM (STANDARD)", text).group(1)
    charge = int(re.search(r"CHARGE (-?\d+)", text).group(1))
    spin = int(re.search(r"MULTIPLICITY (\d+)", text).group(1))
    rows = [line.split() for line in re.search(r"&COORD\n(.*?)\n\s*&END COORD", text, re.S).group(1).splitlines()]
    symbols, positions = [row[0] for row in rows], [[float(x) for x in row[1:4]] for row in rows]
    valence = len(symbols) - charge
    limit = float(re.search(r"MAX_FORCE (\S+)", text).group(1)) if relax else 0.0
    site = float(os.environ.get("FAKE_CP2K_SITE", "2.2")) + charge * float(os.environ.get("FAKE_CP2K_SPLIT", "0"))
    stop_after = int(os.environ.get("FAKE_CP2K_STEPS", "1000"))
    failing = os.environ.get("FAKE_CP2K_NO_SCF", "").split(",")

    def say(line: str = "") -> None:
        out.write(line + "\n")
        out.flush()

    if os.environ.get("FAKE_CP2K_DIE_ALWAYS"):
        return 9
    if os.environ.get("FAKE_CP2K_ABORT"):
        say(" *******************************************************************************\n *   ___" + " " * 71 + "*")
        say(" *  /   \\" + " " * 70 + "*\n * [ABORT]" + " " * 69 + "*")
        say(f" *  \\___/    {os.environ['FAKE_CP2K_ABORT']:66}*\n *    |{' ' * 73}*\n *  O/|{' ' * 73}*\n * /| |{' ' * 73}*")
        say(f" * / \\{' ' * 56}fake/fake.F:1 *\n *******************************************************************************")
        return 1
    kind = "Spin unrestricted (spin-polarized) Kohn-Sham calculation               UKS"
    say(f" DFT| {kind}" if spin > 1 else " DFT| Spin restricted Kohn-Sham (RKS) calculation                            RKS")
    say(f" DFT| Multiplicity {spin:60d}\n DFT| Charge {charge:66d}")
    for count in [(valence + spin - 1) // 2, (valence - spin + 1) // 2] if spin > 1 else [valence]:
        say(f" Number of electrons: {count:58d}")
    died = Path("..", "died")
    for step in range(stop_after + 1):
        time.sleep(float(os.environ.get("FAKE_CP2K_SECONDS", "0")))
        shift = positions[1][0] - site - (positions[0][0] - 1.0)
        energy, force = 0.5 * SPRING * shift**2 - 1.0, -SPRING * shift * BOHR  # hartree, hartree/bohr
        converged = minimizer not in failing or step < int(os.environ.get("FAKE_CP2K_NO_SCF_AT", "0"))
        say(" SCF WAVEFUNCTION OPTIMIZATION\n")
        if converged:
            say("  *** SCF run converged in     7 steps ***\n  outer SCF loop converged in   1 iterations or    7 steps")
        else:
            say("  outer SCF loop FAILED to converge after    7 iterations or   90 steps\n")
            say(" *** WARNING in qs_scf.F:601 :: SCF run NOT converged ***")
            time.sleep(float(os.environ.get("FAKE_CP2K_SECONDS", "0")))
        if spin > 1:
            say("  Ideal and single determinant S**2 :                    0.750000       0.760000")
        Path("relax-RESTART.wfn").write_text(f"step {step}")
        if str(step) == os.environ.get("FAKE_CP2K_DIE_AT") and not died.exists():
            died.write_text("")
            with Path("relax-pos-1.xyz").open("a") as handle:
                handle.write(f"       {len(symbols)}\n i = {step:8d}, E = {energy:19.10f}\n  H   0.1")
            return 9
        if relax and step > 0:
            for name, values in (("pos", positions), ("frc", [[-force, 0.0, 0.0], [force, 0.0, 0.0]])):
                with Path(f"relax-{name}-1.xyz").open("a") as handle:
                    handle.write(f"       {len(symbols)}\n i = {step:8d}, E = {energy:19.10f}\n")
                    for symbol, value in zip(symbols, values, strict=False):
                        handle.write(f"  {symbol} " + " ".join(f"{x:19.10f}" for x in value) + "\n")
        say(f" ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]: {energy:32.15f}\n")
        if with_forces:
            say(" ATOMIC FORCES in [a.u.]\n\n # Atom   Kind   Element          X                Y                Z")
            for index, symbol in enumerate(symbols):
                x = {0: -force, 1: force}.get(index, 0.0)
                say(f" {index + 1:6d} {1:6d}      {symbol}     {x:16.10f} {0.0:16.10f} {0.0:16.10f}")
            say(" SUM OF ATOMIC FORCES           0.0 0.0 0.0 0.0")
        if not relax:
            break
        say(f"\n --------  Informations at step = {step:5d} ------------\n  Used time                  =   {0.5:20.3f}")
        Path("relax-BFGS.Hessian").write_text("hessian")
        if abs(force) <= limit:
            say(" ***                    GEOMETRY OPTIMIZATION COMPLETED                      ***")
            break
        positions[1][0] -= 0.5 * shift
    if "V_HARTREE_CUBE" in text:
        rows = ["2 2.0 0.0 0.0", "2 0.0 2.0 0.0", "2 0.0 0.0 2.0"]
        atoms = [f"1 1.0 {x / BOHR} {y / BOHR} {z / BOHR}" for x, y, z in positions]
        grid = [f"{len(atoms)} 0.0 0.0 0.0", *rows, *atoms, " ".join(["-0.1"] * 8)]
        Path("relax-v_hartree-1_0.cube").write_text("\n".join(["made", "up", *grid]) + "\n")
    if "MO_CUBES" in text:
        for spin_index in range(1, 3 if spin > 1 else 2):
            say(f"  Eigenvalues of the occupied subspace spin            {spin_index}\n ---------\n      -0.39     -0.2\n Fermi Energy")
            say(f"  Lowest Eigenvalues of the unoccupied subspace spin            {spin_index}\n ---------\n       0.1\n")
    say("  **** **** ******  **  PROGRAM ENDED AT                 2026-11-20 13:15:17.801")
    return 0


if __name__ == "__main__":
    sys.exit(main())
