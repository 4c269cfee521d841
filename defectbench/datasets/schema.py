"""The closed schema of ``dataset.yaml``: what a reference dataset says about itself.

Everything that a calculation must first deliver (band edges, host energy, corrections, …) is optional, and its absence is
explicit: the field is written as ``null`` or as an empty list. Unknown fields are refused. Energies eV, lengths Å, forces
eV/Å, charges in units of +e, unless a field's name carries another unit (``cutoff_ry``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from defectbench.base.errors import DatasetError, UnknownNameError
from defectbench.base.files import relative_name
from defectbench.base.schema import problems
from defectbench.base.states import ChargeState, name_problem
from defectbench.base.yaml import read_yaml as read_any_yaml
from defectbench.base.yaml import to_yaml

SCHEMA_VERSION = 1
METADATA_FILE = "dataset.yaml"
MAX_VALUES = 40_000
"""Keys and values of a ``dataset.yaml``; one with some 15,000 data files has as many."""


def _name(value: str) -> str:
    if (problem := name_problem(value)) is not None:
        raise ValueError(f"the name '{value}' {problem}")
    return value


Element = Annotated[str, Field(pattern=r"^[A-Z][a-z]?$")]
RelativeName = Annotated[str, AfterValidator(relative_name)]
"""A path inside the folder that it belongs to."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DatasetId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
DefectName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,-]*$", max_length=64), AfterValidator(_name)]
LevelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]*$", max_length=48), AfterValidator(_name)]
MAX_CHARGE = 12
Charge = Annotated[int, Field(strict=True, ge=-MAX_CHARGE, le=MAX_CHARGE)]
Vector = tuple[float, float, float]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Citation(_Closed):
    """Where something comes from.

    Attributes:
        text: author, title, journal, year; or one sentence.
        doi: without the resolver's address.
        url: for what has no DOI.
    """

    text: str
    doi: str | None = None
    url: str | None = None


class Host(_Closed):
    """The perfect supercell.

    Attributes:
        file: extxyz file in the dataset folder; None if the ``remote`` reader reconstructs the host.
        supercell: repetitions of the conventional cell.
        description: where lattice and positions come from.
    """

    file: str | None = "host.extxyz"
    supercell: tuple[int, int, int] | None = None
    description: str = ""


class Defect(_Closed):
    """A point defect: what was taken out of the host and what was put in.

    Attributes:
        name: as used in file names, e.g. ``V_Sb1``.
        kind: ``vacancy`` (an atom removed), ``substitution`` (removed and added on the same site) or ``interstitial`` (added).
        site: index of the removed atom in the host file, from 0; None for an interstitial.
        position: Cartesian position in the host's frame, Å; None if it is the host site's (or, for the interstitial of a
            remote dataset, if the reader finds it).
        removed: element taken out.
        added: element put in.
        charges: charge states, ascending.
        description: e.g. which inequivalent site it is.
    """

    name: DefectName
    kind: Literal["vacancy", "substitution", "interstitial"]
    site: Annotated[int, Field(strict=True, ge=0)] | None = None
    position: Vector | None = None
    removed: Element | None = None
    added: Element | None = None
    charges: tuple[Charge, ...] = Field(min_length=1)
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Defect:
        needs = {"vacancy": (True, False), "substitution": (True, True), "interstitial": (False, True)}[self.kind]
        if (self.removed is not None, self.added is not None) != needs:
            raise ValueError(
                f"a {self.kind} {'has' if needs[0] else 'has no'} 'removed' element and {'has' if needs[1] else 'has no'} 'added' element"
            )
        if needs[0] != (self.site is not None):
            raise ValueError(f"a {self.kind} {'needs a' if needs[0] else 'has no'} host 'site'")
        if list(self.charges) != sorted(set(self.charges)):
            raise ValueError("'charges' must be ascending and without repetition")
        return self


class BandEdges(_Closed):
    """Band edges of the host at one level of theory, eV on the scale of the same calculations' eigenvalues.

    Attributes:
        vbm: valence band maximum.
        cbm: conduction band minimum; None if unknown.
        source: how they were obtained.
    """

    vbm: float
    cbm: float | None = None
    source: str = ""


class ChemicalPotentials(_Closed):
    """One growth condition.

    Attributes:
        name: e.g. ``Sb-rich``.
        potentials: element → chemical potential, eV per atom, on the scale of the total energies.
        source: how they were obtained.
    """

    name: str
    potentials: dict[Element, float]
    source: str = ""


class Correction(_Closed):
    """Finite-size corrections to the total energy of one charge state, eV; they are added to it.

    Attributes:
        defect: its name.
        charge: in units of +e.
        potential_alignment: alignment of the electrostatic potential, already times the charge.
        band_filling: band filling (Moss–Burstein) correction.
        image_charge: interaction of the charge with its periodic images and the background.
    """

    defect: DefectName
    charge: Charge
    potential_alignment: float = 0.0
    band_filling: float = 0.0
    image_charge: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the three, eV."""
        return self.potential_alignment + self.band_filling + self.image_charge


class Convergence(_Closed):
    """When a relaxation of this level counts as converged.

    Attributes:
        max_force: largest allowed force, eV/Å.
        quantity: ``component`` (largest absolute Cartesian component, as CP2K checks) or ``norm`` (largest force vector).
    """

    max_force: Annotated[float, Field(gt=0)]
    quantity: Literal["component", "norm"] = "norm"


class Uncertainty(_Closed):
    """What is left of the numerical error of a level's data, by which its numbers may differ from those of better settings.

    Attributes:
        energy: of energy differences between minima of one charge state, eV.
        force: root mean square error of force components, eV/Å.
        source: what it was measured with.
    """

    energy: Annotated[float, Field(ge=0)]
    force: Annotated[float, Field(ge=0)]
    source: str


class Settings(_Closed):
    """Settings of a level of theory.

    Attributes:
        cp2k: for CP2K: everything that it needs, in a form that the scripts which run it know; not interpreted here.
        parameters: for any other code: free names with scalar values, e.g. ``ENCUT_eV: 350``.
        notes: sentences.
    """

    cp2k: dict[str, JsonValue] | None = None
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class LevelOfTheory(_Closed):
    """A level of theory and what is known of the host and the corrections at it.

    Attributes:
        name: e.g. ``PBE``; folder name below ``frames/``.
        functional: in words a reader knows.
        code: program and version.
        dispersion: dispersion correction; None if there is none.
        convergence: relaxation criterion; None if unknown.
        uncertainty: of its energies and forces; None if unknown.
        accuracy: what else is known of their errors, in words; not part of the content hash, since nothing is computed from it.
        settings: see :class:`Settings`.
        relaxed_host: extxyz file of the perfect supercell relaxed at this level, atoms in the order of the host file; None if the host
            file is at this level (or nothing is known).
        host_energy: total energy of the perfect supercell, eV; None until it is known.
        band_edges: None until they are known.
        chemical_potentials: growth conditions; empty until they are known.
        corrections: finite-size corrections, at most one per charge state; empty until they are known.
        correction_method: how they were made.
    """

    name: LevelName
    functional: str
    code: str | None = None
    dispersion: str | None = None
    convergence: Convergence | None = None
    uncertainty: Uncertainty | None = None
    accuracy: str | None = None
    settings: Settings = Settings()
    relaxed_host: str | None = None
    host_energy: float | None = None
    band_edges: BandEdges | None = None
    chemical_potentials: tuple[ChemicalPotentials, ...] = ()
    corrections: tuple[Correction, ...] = ()
    correction_method: str | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        out: dict[str, Any] = handler(self)
        for name in ("uncertainty", "accuracy", "relaxed_host"):
            if out[name] is None:
                del out[name]  # content hashes of datasets without them are older than these fields
        return out

    @model_validator(mode="after")
    def _unique(self) -> LevelOfTheory:
        _no_repeats("correction of charge state", [str(ChargeState(c.defect, c.charge)) for c in self.corrections])
        _no_repeats("chemical potentials", [c.name for c in self.chemical_potentials])
        return self

    def __repr__(self) -> str:
        return f"<level of theory {self.name}: {self.functional}, {len(self.corrections)} corrections>"

    def __str__(self) -> str:
        return repr(self)


class DielectricTensor(_Closed):
    """Static dielectric tensor (dimensionless) in the Cartesian axes of the host file.

    Attributes:
        tensor: 3 × 3, electronic plus ionic.
        high_frequency: 3 × 3, electronic part; None if not given.
        citation: where it comes from.
    """

    tensor: tuple[Vector, Vector, Vector]
    high_frequency: tuple[Vector, Vector, Vector] | None = None
    citation: Citation


class Source(_Closed):
    """Files of one public repository at one commit.

    Attributes:
        base_url: address of the folder, at a fixed commit; ``https://`` only. A user who wants another source sets DEFECTBENCH_MIRROR.
        commit: that commit.
        mirror_folder: folder below a mirror (and below the cache) that holds the same files.
        licence: of the remote files.
        files: relative path → SHA-256.
    """

    base_url: Annotated[str, Field(pattern=r"^https://[^/\s]+(/\S*)?$", max_length=1000)]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    mirror_folder: RelativeName
    licence: str
    files: dict[RelativeName, Sha256]


class Remote(Source):
    """Files that are fetched at run time and not stored with the dataset.

    Attributes:
        reader: name of the reader that turns them into host, starts, minima and corrections (``defectbench.datasets.readers``).
        further: other repositories; their files are named with their mirror folder in front.
    """

    reader: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64)]
    further: tuple[Source, ...] = ()

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        out: dict[str, Any] = handler(self)
        if not self.further:
            del out["further"]  # the content hash of a dataset with one source is older than this field
        return out


class DatasetFile(_Closed):
    """The content of ``dataset.yaml``.

    Attributes:
        schema_version: of this schema.
        id: the name under which it is loaded.
        title: one line.
        description: one paragraph.
        licence: of the data, an SPDX identifier where there is one.
        citations: what to cite.
        host: the perfect supercell.
        reference_level: name of the level whose ground states are the reference.
        levels: levels of theory.
        dielectric: None if unknown.
        defects: point defects and their charge states.
        files: relative path → SHA-256 of every data file in the folder.
        remote: what is fetched at run time.
    """

    schema_version: Literal[1]
    id: DatasetId
    title: str
    description: str = ""
    licence: str
    citations: tuple[Citation, ...] = ()
    host: Host
    reference_level: LevelName
    levels: tuple[LevelOfTheory, ...] = Field(min_length=1)
    dielectric: DielectricTensor | None = None
    defects: tuple[Defect, ...] = Field(min_length=1)
    files: dict[RelativeName, Sha256] = Field(default_factory=dict)
    remote: Remote | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DatasetFile:
        names = [level.name for level in self.levels]
        _no_repeats("level", names)
        _no_repeats("defect", [defect.name for defect in self.defects])
        if self.reference_level not in names:
            raise ValueError(f"reference_level '{self.reference_level}' is not among the levels {', '.join(names)}")
        states = {(defect.name, charge) for defect in self.defects for charge in defect.charges}
        for level in self.levels:
            for correction in level.corrections:
                if (correction.defect, correction.charge) not in states:
                    state = ChargeState(correction.defect, correction.charge)
                    raise ValueError(f"level {level.name} has a correction of {state}, which is not a charge state of the dataset")
        if self.host.file is None and self.remote is None:
            raise ValueError("host.file is missing, and there is no remote block to take the host from")
        if self.host.file is not None and self.host.file not in self.files:
            raise ValueError(f"host.file '{self.host.file}' is not listed under files")
        for level in self.levels:
            if level.relaxed_host is not None and level.relaxed_host not in self.files:
                raise ValueError(f"relaxed_host '{level.relaxed_host}' of level {level.name} is not listed under files")
        if self.remote is None:
            for defect in self.defects:
                if defect.kind == "interstitial" and defect.position is None:
                    raise ValueError(f"interstitial {defect.name} needs a position")
        return self

    def __repr__(self) -> str:
        return f"<metadata of {self.id}: {len(self.defects)} defects, {len(self.levels)} levels of theory, {len(self.files)} files>"

    def __str__(self) -> str:
        return repr(self)

    def level(self, name: str | None = None) -> LevelOfTheory:
        """A level of theory by name; the reference level by default.

        Raises:
            UnknownNameError: no such level.
        """
        wanted = name or self.reference_level
        for level in self.levels:
            if level.name == wanted:
                return level
        raise UnknownNameError("level of theory", wanted, [level.name for level in self.levels])

    def defect(self, name: str) -> Defect:
        """A defect by name.

        Raises:
            UnknownNameError: no such defect.
        """
        for defect in self.defects:
            if defect.name == name:
                return defect
        raise UnknownNameError("defect", name, [defect.name for defect in self.defects])

    def canonical(self) -> dict[str, Any]:
        """The content as JSON values, defaults included."""
        return self.model_dump(mode="json")


def _no_repeats(what: str, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{what} '{name}' appears twice")


def explain(error: ValidationError) -> list[tuple[str, str]]:
    """(field, what is wrong) for each problem of a ``dataset.yaml``; the field is written like ``levels.0.code``."""
    return problems(error, DatasetFile)


def parse_metadata(path: Path) -> DatasetFile:
    """Reads and checks a ``dataset.yaml``.

    Raises:
        DatasetError: unreadable, not YAML, or against the schema; one line naming the file and the first wrong fields.
    """
    content = read_yaml(path)
    try:
        return DatasetFile.model_validate(content)
    except ValidationError as error:
        found = explain(error)
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise DatasetError(
            f"{path}: " + "; ".join(f"{field}: {message}" for field, message in found[:3]) + more, code="bad-metadata"
        ) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        DatasetError: no such file, unreadable, not YAML, too large, or no mapping; see :func:`defectbench.base.yaml.read_yaml`.
    """
    if not path.exists():
        raise DatasetError(f"there is no {path}; a dataset is a folder with a {METADATA_FILE}", code="no-dataset")
    content = read_any_yaml(path, DatasetError, MAX_VALUES)
    if not isinstance(content, dict):
        raise DatasetError(f"{path} contains no mapping; it should begin with 'schema_version: {SCHEMA_VERSION}'", code="bad-metadata")
    return content


def metadata_to_yaml(metadata: DatasetFile) -> str:
    """The text of ``dataset.yaml``; reading it back gives an equal model."""
    return to_yaml(metadata.canonical())
