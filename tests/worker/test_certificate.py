"""The charge-response certificate: measured through the real worker, judged by pure code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from refusals import raises_code

from defectbench.calculations.client import WorkerClient
from defectbench.calculations.plan import certificate_calculation
from defectbench.models.certificate import ChargeCertificate, check_claim, classify
from defectbench.models.registry import load_model
from defectbench.models.schema import ModelDefinition

pytestmark = pytest.mark.slow

HEARS = {"how": "info:charge"}
Start = Callable[..., WorkerClient]


def certify(client: WorkerClient, atoms: Atoms, charges: tuple[int, ...] = (-2, -1, 0, 1)) -> ChargeCertificate:
    return classify(client.calculate(certificate_calculation(client.model.definition, atoms, charges)).model_dump(mode="json"))


def failed(certificate: ChargeCertificate) -> set[str]:
    return {check.name for check in certificate.failed}


def test_a_sound_charge_blind_model(start: Start, crystal: Atoms) -> None:
    client = start()
    certificate = certify(client, crystal)
    assert certificate.charge_class == "charge-blind"
    assert failed(certificate) == set()
    assert certificate.charges == (-2, 0, 1)  # three are proof enough
    assert certificate.size_ratio is None
    assert certificate.descriptor_change is not None
    assert certificate.seconds_per_call > 0
    check_claim(certificate, client.model.definition)


def test_a_blind_definition_of_a_model_that_hears_is_found_out(start: Start, crystal: Atoms) -> None:
    client = start(arguments={"stiffening": 0.5})
    certificate = certify(client, crystal)
    assert certificate.charge_class == "charge-aware"
    with raises_code("charge-contradiction", "atoms.info['charge']"):
        check_claim(certificate, client.model.definition)


def test_energy_only(start: Start, crystal: Atoms) -> None:
    client = start(arguments={"energy_per_charge": 0.84}, charge=HEARS)
    certificate = certify(client, crystal)
    assert certificate.charge_class == "energy-only"
    assert certificate.energy_per_charge == pytest.approx(0.84)
    assert certificate.force_change == pytest.approx(0.0, abs=1e-12)
    assert certificate.size_ratio == pytest.approx(1.0)
    assert failed(certificate) == set()
    check_claim(certificate, client.model.definition)


def test_forces_that_change_too_little_to_move_an_atom_are_energy_only(start: Start, crystal: Atoms) -> None:
    certificate = certify(start(arguments={"energy_per_charge": 0.84, "stiffening": 0.005}, charge=HEARS), crystal)
    assert certificate.charge_class == "energy-only"
    assert 0 < certificate.force_change < 0.03


def test_charge_aware(start: Start, crystal: Atoms) -> None:
    certificate = certify(start(arguments={"stiffening": 0.3}, charge=HEARS), crystal)
    assert certificate.charge_class == "charge-aware"
    assert certificate.force_change > 0.03


def test_a_response_summed_over_atoms_grows_with_the_cell(start: Start, crystal: Atoms) -> None:
    certificate = certify(start(arguments={"energy_per_charge": 0.1, "per_atom": True}, charge=HEARS), crystal)
    assert certificate.size_ratio == pytest.approx(2.0)
    assert failed(certificate) == {"charge_response_size_consistent"}


def test_a_wrong_key_loses_the_charge_and_is_refused(start: Start, crystal: Atoms) -> None:
    client = start(arguments={"stiffening": 0.3, "key": "charge"}, charge={"how": "info:total_charge"})
    certificate = certify(client, crystal)
    assert certificate.charge_class == "charge-blind"
    with raises_code("charge-contradiction"):
        check_claim(certificate, client.model.definition)


@pytest.mark.parametrize("way", ["clamp", "steps", "pop"])
def test_a_charge_that_gets_lost_in_a_worker_is_refused(start: Start, crystal: Atoms, way: str) -> None:
    client = start("fake_models:lossy", arguments={"stiffening": 0.3, "way": way}, charge=HEARS)
    with raises_code("charge-contradiction"):
        check_claim(certify(client, crystal), client.model.definition)


def test_stale_results_are_found_and_refused(start: Start, crystal: Atoms) -> None:
    client = start("fake_models:stale", arguments={"stiffening": 0.3}, charge=HEARS)
    certificate = certify(client, crystal)
    assert "no_stale_results" in failed(certificate)
    with raises_code("charge-contradiction"):
        check_claim(certificate, client.model.definition)


def test_forces_that_are_no_gradient_are_found(start: Start, crystal: Atoms) -> None:
    certificate = certify(start("fake_models:wrong_forces"), crystal)
    assert {"forces_are_gradient", "rotation"} <= failed(certificate)
    assert "translation" not in failed(certificate)


def test_a_model_that_fails_gets_no_certificate(start: Start, crystal: Atoms) -> None:
    client = start("fake_models:misbehaving", charge=HEARS, arguments={"after": 0})
    with raises_code("model-failed", "charge 0"):
        certify(client, crystal, (2, 3))


def test_it_is_deterministic(start: Start, crystal: Atoms) -> None:
    client = start(arguments={"stiffening": 0.3}, charge=HEARS)
    request = certificate_calculation(client.model.definition, crystal, (-1, 0, 1))
    first, second = client.calculate(request), client.calculate(request)
    for name in ("energies", "forces", "finite_difference", "rotation", "permutation", "doubling"):
        assert getattr(first, name) == getattr(second, name)


def test_it_survives_json(start: Start, crystal: Atoms) -> None:
    certificate = certify(start(arguments={"stiffening": 0.3}, charge=HEARS), crystal)
    assert ChargeCertificate.from_json(json.loads(json.dumps(certificate.to_json()))) == certificate


def definition(**charge: Any) -> ModelDefinition:
    return load_model("sevennet-0").model_copy(update={"charge": type(load_model("sevennet-0").charge)(**charge)})


def charges_of(calculation: Mapping[str, Any]) -> list[int]:
    return list(calculation["charges"])


def test_charges_of_the_request(crystal: Atoms) -> None:
    hears = definition(how="total_charge")
    assert charges_of(certificate_calculation(hears, crystal, (-3, -2, -1)).options) == [-3, -2, -1, 0]
    assert charges_of(certificate_calculation(hears, crystal).options) == [-1, 0, 1]
    narrow = definition(how="total_charge", range=(-1, 0))
    assert charges_of(certificate_calculation(narrow, crystal, (-3, 2)).options) == [-1, 0]
    blind = definition(how="none")
    assert charges_of(certificate_calculation(blind, crystal, (-3, -2, -1, 0, 1)).options) == [-3, 0, 1]


@pytest.fixture
def raw(start: Start, crystal: Atoms) -> dict[str, Any]:
    client = start(arguments={"stiffening": 0.3}, charge=HEARS)
    return client.calculate(certificate_calculation(client.model.definition, crystal, (-1, 0, 1))).model_dump(mode="json")


def test_a_claim_is_held_against_the_finding(raw: dict[str, Any]) -> None:
    certificate = classify(raw)
    check_claim(certificate, definition(how="total_charge", claim="charge-aware"))
    with raises_code("charge-contradiction", "energy-only", "charge-aware"):
        check_claim(certificate, definition(how="total_charge", claim="energy-only"))


def test_the_order_of_the_charges_does_not_matter(raw: dict[str, Any]) -> None:
    turned = {**raw, **{name: raw[name][::-1] for name in ("charges", "energies", "forces")}}
    assert classify(turned) == classify(raw)


def test_noise_is_no_response(raw: dict[str, Any]) -> None:
    noisy = {**raw, "repeat": {"energy": 5.0, "forces": 5.0}}
    assert classify(noisy).charge_class == "charge-blind"
    assert "repeatable" in failed(classify(noisy))


def test_the_page_on_models_states_the_thresholds() -> None:
    from defectbench.models.certificate import THRESHOLDS

    page = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for value in (THRESHOLDS["float32"].aware_force, THRESHOLDS["float32"].blind_energy, THRESHOLDS["float32"].gradient_absolute):
        assert f"{value:g}" in page
