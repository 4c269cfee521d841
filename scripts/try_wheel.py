"""Uses an installed defectbench from a folder of its own: ``python try_wheel.py FOLDER``.

The datasets must come with the wheel, a calculator in hand must get an entry with figures and report, and the commands must answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ase.calculators.lj import LennardJones


def main(folder: Path) -> None:
    """Evaluates a Lennard-Jones toy on one charge state and reads its entry back."""
    folder.mkdir(parents=True)
    os.chdir(folder)
    import defectbench

    assert Path.cwd() not in Path(defectbench.__file__).parents
    assert defectbench.validate_dataset("sb2se3-vacancies").valid
    done = defectbench.evaluate(
        LennardJones(sigma=2.3, epsilon=0.1, rc=5.0, smooth=True),
        name="toy",
        defects=["V_Sb1"],
        charges=[-3],
        configurations=["Unperturbed"],
        tasks=["relax"],
        output="run",
    )
    assert (Path("run") / "index.html").is_file()
    assert defectbench.load_entry("run")["relax"]["rmsd"].value is not None, done
    command = Path(sys.executable).with_name("defectbench")
    for arguments in (["--version"], ["models", "list"], ["datasets", "list"], ["rescore", "run", "--check"]):
        subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)
    print(f"wheel {defectbench.__version__} works with Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
