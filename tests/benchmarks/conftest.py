from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> bool:
    """Whether time is measured (``--benchmark-enable``), or the benchmarks are only to run."""
    return bool(request.config.getoption("benchmark_enable"))
