"""One reader per public source: each turns the fetched files of a dataset into a :class:`~defectbench.datasets.dataset.Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from defectbench.base.errors import UnknownNameError
from defectbench.datasets.dataset import Dataset
from defectbench.datasets.readers.cdte_doped import open_cdte_doped
from defectbench.datasets.readers.mgo_antisite_doped import open_mgo_antisite_doped
from defectbench.datasets.readers.savory_2019 import open_savory_2019
from defectbench.datasets.schema import DatasetFile

Reader = Callable[[Path, DatasetFile], Dataset]
"""(dataset folder, its metadata) → dataset; fetches what is not in the cache."""

READERS: Mapping[str, Reader] = {
    "cdte-doped": open_cdte_doped,
    "mgo-antisite-doped": open_mgo_antisite_doped,
    "savory-2019": open_savory_2019,
}
"""Reader by the name that ``remote.reader`` gives in ``dataset.yaml``."""


def reader(name: str) -> Reader:
    """The reader of that name.

    Raises:
        UnknownNameError: no such reader.
    """
    if name not in READERS:
        raise UnknownNameError("reader", name, READERS)
    return READERS[name]
