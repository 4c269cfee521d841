"""Import of whatever format: the one function that the command line and a notebook call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from defectbench.base.errors import DatasetError, UnknownNameError
from defectbench.base.paths import user_path

if TYPE_CHECKING:
    from ase import Atoms

    from defectbench.datasets.importing.assemble import ImportReport

ImportFormat = Literal["auto", "shakenbreak", "extxyz", "doped"]


def import_dataset(
    source: str | Path | Sequence[str | Path],
    host: str | Path | Atoms | None,
    output: str | Path,
    *,
    source_format: ImportFormat = "auto",
    dataset_id: str | None = None,
    title: str | None = None,
    level: str = "DFT",
    functional: str | None = None,
    code: str | None = None,
    licence: str = "unspecified",
    overwrite: bool = False,
    **labels: Any,
) -> ImportReport:
    """Makes a dataset of your own results, for ``evaluate(model, dataset=output)``.

    Args:
        source: a ShakeNBreak result folder, one or more extxyz files, or JSON files of doped (``.json``, ``.json.gz``).
        host: the perfect supercell, a file or atoms; its cell must be that of the defects. None: the one in doped's files.
        output: the dataset folder to make.
        source_format: ``auto`` takes a folder for ShakeNBreak's, ``.json`` and ``.json.gz`` for doped's and other files for extxyz.
        dataset_id: the dataset's name; default: the folder's.
        title: one line.
        level: name of the level of theory, e.g. ``PBE``.
        functional: in words; default: the level's name.
        code: program and version.
        licence: of the data.
        overwrite: replace a dataset that exists.
        **labels: where extxyz frames keep their labels: the keywords of
            :func:`~defectbench.datasets.importing.labelled_extxyz.import_extxyz`, e.g. ``charge_key="total_charge"``.

    Returns:
        What was imported, what was left out and why, and what was assumed.

    Raises:
        DatasetError: nothing there can be used, or the output cannot be written.

    Example:
        >>> import tempfile, defectbench
        >>> dataset = defectbench.load_dataset("sb2se3-vacancies")
        >>> frames = dataset.path / "frames" / "PBE" / "V_Se2_q+2_Unperturbed.extxyz"
        >>> output = tempfile.mkdtemp() + "/mine"
        >>> report = defectbench.import_dataset(frames, dataset.path / "host.extxyz", output, level="PBE")
        >>> report.minima, defectbench.load_dataset(output).states
        (1, (('V_Se2', 2),))
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    if source_format not in get_args(ImportFormat):
        raise UnknownNameError("format", source_format, get_args(ImportFormat))
    if not sources:
        raise DatasetError("there is nothing to import; give a ShakeNBreak folder or extxyz files", code="import-nothing")
    about: dict[str, Any] = {
        "dataset_id": dataset_id,
        "title": title,
        "level": level,
        "functional": functional,
        "code": code,
        "licence": licence,
        "overwrite": overwrite,
    }
    json = all(str(path).endswith((".json", ".json.gz")) for path in sources)
    if source_format == "doped" or (source_format == "auto" and json):
        from defectbench.datasets.importing.doped import import_doped

        if labels:
            raise DatasetError(
                f"{', '.join(sorted(labels))}: for extxyz files only; doped's files have no such labels", code="import-option"
            )
        return import_doped(sources, output, host=host, **about)
    if host is None:
        raise DatasetError("the perfect supercell is missing; name its file with --host", code="import-host")
    if source_format == "extxyz" or (source_format == "auto" and not user_path(sources[0]).is_dir()):
        from defectbench.datasets.importing.labelled_extxyz import import_extxyz

        return import_extxyz(sources, host, output, **about, **labels)
    from defectbench.datasets.importing.shakenbreak import import_shakenbreak

    if len(sources) > 1:
        raise DatasetError(f"a ShakeNBreak import takes one folder, not {len(sources)}", code="import-option")
    if labels:
        raise DatasetError(
            f"{', '.join(sorted(labels))}: for extxyz files only; a ShakeNBreak folder has no such labels", code="import-option"
        )
    return import_shakenbreak(sources[0], host, output, **about)
