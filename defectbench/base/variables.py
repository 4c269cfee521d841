"""The environment variables that code from elsewhere sees: models' workers, and interpreters that are asked what they have."""

from __future__ import annotations

import os

from defectbench.base.redaction import is_secret_name

_FIRST_WORDS = (
    "CONDA_ CUBLAS_ CUDA_ CUDNN_ DYLD_ E3NN_ GOMP_ HIP_ HSA_ JAX_ KMP_ LC_ MACE_ MATGL_ MKL_ NUMBA_ NVIDIA_ NVTE_ OMP_ OPENBLAS_ PYTORCH_"
    " ROCR_ TF_ TORCH TRITON_ VECLIB_ XLA_"
)
_NAMES = (
    "APPDATA COMSPEC HOME HOMEDRIVE HOMEPATH LANG LANGUAGE LD_LIBRARY_PATH LD_PRELOAD LOCALAPPDATA MPLCONFIGDIR"
    " NUMBER_OF_PROCESSORS NUMEXPR_MAX_THREADS PATH PATHEXT PROGRAMDATA PROGRAMFILES SHELL SYSTEMDRIVE SYSTEMROOT TEMP TMP TMPDIR TZ"
    " USERPROFILE WINDIR XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR"
)
"""Packages need no others; keys, tokens and addresses are none of a model's business."""


def seen_variables() -> dict[str, str]:
    """Of this process's environment variables the listed ones, and those that the user names in ``DEFECTBENCH_WORKER_VARIABLES``.

    >>> "PATH" in seen_variables()
    True
    """
    first, names = tuple(_FIRST_WORDS.split()), set(_NAMES.split())
    named = {name.strip() for name in os.environ.get("DEFECTBENCH_WORKER_VARIABLES", "").split(",")}
    return {
        name: value
        for name, value in os.environ.items()
        if name in named or ((name.upper() in names or name.startswith(first)) and not is_secret_name(name))
    }
