"""A loaded reference dataset: host, start structures, DFT frames and minima. Read-only; hands out copies."""

from __future__ import annotations
# The interface (the datasets owner fills in the bodies):
#
# @dataclass(frozen=True)
# class ReferenceMinimum:
#     defect: str; charge: int; configuration: str; level: str
#     atoms: Atoms          # relaxed structure; atoms in the order of the start
#     energy: float         # eV
#     atoms.get_forces() where the dataset has them
#
# class Dataset:
#     id: str
#     path: Path                        # the dataset folder
#     metadata: DatasetFile             # pydantic model of dataset.yaml
#     sha256: str                       # over dataset.yaml and all files' hashes: identifies the content
#     level: str                        # the level of theory whose ground states are the reference ("PBE", "HSE06+D3")
#     host: Atoms                       # perfect supercell (reference level)
#     defects: tuple[str, ...]
#     states: tuple[tuple[str, int], ...]           # all (defect, charge), whether DFT exists or not
#     def charges(defect) -> tuple[int, ...]
#     def defect_position(defect) -> NDArray (3,)   # Cartesian Å, in the host frame: the vacancy site
#     def host_indices(defect) -> NDArray[int]      # for each atom of a start: index of its host site, -1 for an added atom
#     def starts(defect, charge) -> dict[str, Atoms]               # ordered by labels.sort_key; may be empty
#     def frames(defect, charge, configuration, level=None) -> list[Atoms]      # with SinglePointCalculator energy/forces
#     def minima(defect, charge, level=None) -> dict[str, ReferenceMinimum]     # converged only
#     def ground_state(defect, charge, level=None) -> ReferenceMinimum | None
#     def has_reference(defect, charge) -> bool
