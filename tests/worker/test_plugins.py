"""Adapters of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from refusals import raises_code

from defectbench.models.schema import ModelDefinition
from defectbench.models.trust import require_trust
from defectbench.worker import adapters
from defectbench.worker.adapters.base import LoadedModel
from defectbench.worker.errors import WorkerError


@pytest.fixture
def plugin(monkeypatch):
    def offer(load):
        point = SimpleNamespace(name="mine", load=lambda: load)
        monkeypatch.setattr(adapters, "entry_points", lambda group: [point] if group == "defectbench.adapters" else [])

    return offer


SPEC = {"adapter": "plugin:mine", "arguments": {"a": 1}, "charge": {"how": "none"}}


def test_a_plugin_loads_the_model(plugin):
    plugin(SimpleNamespace(load=lambda spec, files: LoadedModel(spec["arguments"], parameters=len(files))))
    assert adapters.load_adapter(SPEC, []).calculator == {"a": 1}


@pytest.mark.parametrize("load", [None, lambda _spec, _files: 3])
def test_plugins_that_are_not_there_or_not_models(plugin, load):
    if load is not None:
        plugin(load)
    with pytest.raises(WorkerError) as error:
        adapters.load_adapter(SPEC, [])
    assert error.value.kind == "adapter"


def test_a_plugin_needs_trust():
    definition = ModelDefinition(id="m", name="m", adapter="plugin:mine", level_of_theory="PBE")
    with raises_code("untrusted-model"):
        require_trust(definition)
    require_trust(definition, trust_code=True)


def test_an_entry_point_can_be_written_as_documented():
    point = EntryPoint("mine", "defectbench.worker.adapters.chgnet", "defectbench.adapters")
    assert callable(point.load().load)
