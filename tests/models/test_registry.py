from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import raises_code

from defectbench.calculations.preparation import ModelOptions, choose_model
from defectbench.models.environment import PythonEnvironment, list_environments
from defectbench.models.naming import with_head
from defectbench.models.registry import definition_folder, list_models, load_model
from defectbench.models.resolved import check_against_definition, resolve_model
from defectbench.models.schema import ModelDefinition, Weights

REQUIRED = {
    "sevennet-0",
    "sevennet-l3i5",
    "sevennet-mf-0",
    "chgnet-0.2.0",
    "chgnet-0.3.0",
    "tensornet-matpes-pbe",
    "m3gnet-matpes-pbe",
    "m3gnet-mp-2021",
    "qet-matq",
    "mace-mpa-0",
    "mace-mh-1",
    "mace-omat-0",
    "grace-2l-omat",
    "mattersim-v1-1m",
    "mattersim-v1-5m",
    "mace-mp-0-small",
    "mace-mp-0-medium",
    "mace-mp-0b3",
    "mace-matpes-pbe",
    "nequix-mp-1",
    "nequix-mp-1-pft",
    "nequix-mp-1-pft-nocotrain",
    "nequix-omat-1",
    "nequix-oam-1",
    "nequix-oam-1-pft",
    "orb-v3-conservative-inf-omat",
    "pet-mad-s-1.1",
}
ENVIRONMENT = PythonEnvironment(Path("python"), "some", {}, "0" * 64)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def define(tmp_path: Path) -> Callable[..., Path]:
    def write(**fields: Any) -> Path:
        content = {"id": "mine", "name": "Mine", "adapter": "mace", "level_of_theory": "PBE", **fields}
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_every_required_model_is_registered() -> None:
    assert {model.id for model in list_models()} >= REQUIRED


@pytest.mark.parametrize("model", list_models(), ids=lambda m: m.id)
def test_every_entry_is_complete(model: ModelDefinition) -> None:
    assert load_model(model.id) == model
    assert model.environment in {status.name for status in list_environments()}
    assert model.citation is not None
    assert model.citation.doi
    assert model.training_data != "not stated"
    assert model.licence != "not stated"
    if model.weights.parameters is not None:  # counted in the loaded model, so its files were at hand
        assert not model.requires_trust
    for file in model.weights.files:
        assert file.sha256 not in file.refused


def test_unknown_names_get_the_nearest() -> None:
    with raises_code("unknown-model", "sevennet-0"):
        load_model("sevenet-0")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": "red"}, "field colour"),
        ({"level_of_theory": None}, "field level_of_theory"),
        ({"adapter": "magic"}, "field adapter"),
        ({"charge": {"how": "by mail"}}, "field charge"),
        ({"charge": {"how": "none", "claim": "charge-aware"}}, "field charge"),
        ({"charge": {"how": "total_charge", "range": [2, -2]}}, "field charge"),
        ({"weights": {"source": "url", "files": [{"path": "a"}]}}, "field weights"),
        ({"weights": {"source": "url", "files": [{"path": "a", "url": "http://x"}]}}, "field weights.files.0.url"),
        ({"weights": {"source": "url", "files": [{"path": "../a", "url": "https://x"}]}}, "../a"),
        ({"weights": {"source": "path", "files": [{"path": "a", "sha256": "123"}]}}, "field weights.files.0.sha256"),
        ({"weights": {"source": "package"}}, "field weights"),
        ({"adapter": "ase_calculator"}, "factory"),
        ({"id": "Not An Id"}, "field id"),
        ({"charge": {"how": "weights"}}, "charge"),
        ({"weights": {"source": "path", "files": [{"path": "a", "charge": 1}, {"path": "b"}]}}, "charge"),
        ({"charge": {"how": "weights"}, "weights": {"source": "path", "files": [{"path": "a", "charge": 1}]}}, "weights: "),
        ({"weights": {"source": "path", "files": [{"path": "a"}, {"path": "a"}]}}, "field weights"),
    ],
)
def test_a_bad_definition_names_file_and_field(define: Callable[..., Path], fields: dict[str, Any], named: str) -> None:
    path = define(**fields)
    with raises_code("bad-model-yaml", path, named):
        load_model(path)


def test_unreadable_definitions_are_one_line(tmp_path: Path) -> None:
    with raises_code("no-file", "none.yaml"):
        load_model(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\nb: 2")
    with raises_code("bad-yaml", "bad.yaml, line "):
        load_model(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with raises_code("bad-model-yaml", "list.yaml"):
        load_model(tmp_path / "list.yaml")


def test_own_weights_of_unknown_hash_need_trust(define: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "own.model"
    file.write_bytes(b"weights")
    definition = load_model(define())
    with raises_code("untrusted-model", digest(b"weights"), "--trust-weights"):
        resolve_model(definition, weights=file, environment=ENVIRONMENT)
    trusted = resolve_model(definition, weights=file, environment=ENVIRONMENT, trust_weights=True)
    assert trusted.weights_sha256 == {"own.model": digest(b"weights")}
    with raises_code("no-weights", "gone"):
        resolve_model(definition, weights=tmp_path / "gone", environment=ENVIRONMENT)


def test_a_hash_in_a_definition_of_ones_own_is_not_trust_enough(define: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "own.model").write_bytes(b"weights")
    path = define(weights={"source": "path", "files": [{"path": "own.model", "sha256": digest(b"weights")}]})
    with raises_code("untrusted-model", "--trust-weights"):
        resolve_model(load_model(path), folder=definition_folder(path), environment=ENVIRONMENT)
    resolved = resolve_model(load_model(path), folder=definition_folder(path), environment=ENVIRONMENT, trust_weights=True)
    assert resolved.weights_paths["own.model"] == tmp_path / "own.model"


def test_a_path_without_a_hash_needs_trust(define: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "own.model").write_bytes(b"weights")
    path = define(weights={"source": "path", "files": [{"path": "own.model"}]})
    with raises_code("untrusted-model", "--trust-weights"):
        resolve_model(load_model(path), folder=definition_folder(path), environment=ENVIRONMENT)
    assert resolve_model(load_model(path), folder=definition_folder(path), environment=ENVIRONMENT, trust_weights=True).weights_paths


def test_wrong_content_is_refused(define: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "own.model").write_bytes(b"other")
    path = define(weights={"source": "path", "files": [{"path": "own.model", "sha256": digest(b"weights")}]})
    with raises_code("wrong-weights", digest(b"other")):
        resolve_model(load_model(path), folder=definition_folder(path), environment=ENVIRONMENT, trust_weights=True)


def test_a_folder_of_weights_is_hashed_whole(define: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"a")
    (tmp_path / "saved" / "variables" / "variables.index").write_bytes(b"b")
    path = define(weights={"source": "path", "files": [{"path": "saved"}]})
    resolved = resolve_model(load_model(path), folder=definition_folder(path), environment=ENVIRONMENT, trust_weights=True)
    assert resolved.weights_sha256 == {"saved/saved_model.pb": digest(b"a"), "saved/variables/variables.index": digest(b"b")}


def test_weights_come_from_the_mirror_by_hash(
    define: Callable[..., Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "mine").mkdir(parents=True)
    (mirror / "mine" / "a.model").write_bytes(b"weights")
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(mirror))
    file = {"path": "mine/a.model", "url": "https://example.org/a.model", "sha256": digest(b"weights")}
    resolved = resolve_model(load_model(define(weights={"source": "url", "files": [file]})), environment=ENVIRONMENT, trust_weights=True)
    assert resolved.weights_paths["mine/a.model"] == cache / "weights" / "mine" / "a.model"
    (mirror / "mine" / "a.model").write_bytes(b"tampered")
    resolved.weights_paths["mine/a.model"].unlink()
    with raises_code("hash-mismatch", "a.model"):
        resolve_model(load_model(define(weights={"source": "url", "files": [file]})), environment=ENVIRONMENT, trust_weights=True)


def test_a_download_of_unknown_hash_needs_trust(
    define: Callable[..., Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "a.model").write_bytes(b"weights")
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(mirror))
    definition = load_model(define(weights={"source": "url", "files": [{"path": "a.model", "url": "https://example.org/a.model"}]}))
    with raises_code("untrusted-model", "--trust-weights"):
        resolve_model(definition, environment=ENVIRONMENT)
    assert not cache.exists()  # nothing was downloaded either
    resolved = resolve_model(definition, environment=ENVIRONMENT, trust_weights=True)
    assert resolved.weights_sha256 == {"a.model": digest(b"weights")}
    (mirror / "a.model").unlink()
    resolved.weights_paths["a.model"].unlink()
    with raises_code("not-in-mirror", "a.model"):
        resolve_model(definition, environment=ENVIRONMENT, trust_weights=True)


def test_downloads_of_unknown_hash_are_kept_apart_by_their_url(
    define: Callable[..., Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "mine").mkdir(parents=True)
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(mirror))

    def contents(url: str, served: str) -> list[str]:
        (mirror / "mine" / "a.model").write_text(served)
        definition = load_model(define(weights={"source": "url", "files": [{"path": "mine/a.model", "url": url}]}))
        resolved = resolve_model(definition, environment=ENVIRONMENT, trust_weights=True)
        assert all(path.is_relative_to(cache / "weights") for path in resolved.weights_paths.values())
        return [path.read_text() for path in resolved.weights_paths.values()]

    assert contents("https://example.org/A/a.model", "A") == ["A"]
    assert contents("https://example.org/B/a.model", "B") == ["B"]
    assert contents("https://example.org/A/a.model", "of the next version") == ["A"]  # of the cache, as before


def test_archives_are_unpacked_once_and_safely(
    define: Callable[..., Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def archive(name: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as content:
            entry = tarfile.TarInfo(name)
            entry.size = 2
            content.addfile(entry, io.BytesIO(b"pb"))
        return buffer.getvalue()

    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("DEFECTBENCH_WEIGHTS_MIRROR", str(mirror))

    def definition(content: bytes) -> ModelDefinition:
        (mirror / "m.tar.gz").write_bytes(content)
        file = {"path": "m.tar.gz", "url": "https://example.org/m.tar.gz", "sha256": digest(content), "unpack": True}
        return load_model(define(weights={"source": "url", "files": [file]}))

    content = archive("GRACE/saved_model.pb")
    resolved = resolve_model(definition(content), environment=ENVIRONMENT, trust_weights=True)
    assert resolved.weights_sha256 == {"m.tar.gz!GRACE/saved_model.pb": digest(b"pb")}
    again = resolve_model(definition(content), environment=ENVIRONMENT, trust_weights=True)
    assert again.weights_paths == resolved.weights_paths
    with raises_code("bad-format"):
        resolve_model(definition(archive("../outside.pb")), environment=ENVIRONMENT, trust_weights=True)
    assert not (cache / "weights" / "outside.pb").exists()


def test_no_network_is_one_line(define: Callable[..., Path], cache: Path) -> None:
    file = {"path": "a.model", "url": "https://127.0.0.1:9/a.model", "sha256": "0" * 64}
    with raises_code("download-failed", file["url"], cache / "weights"):
        resolve_model(load_model(define(weights={"source": "url", "files": [file]})), environment=ENVIRONMENT, trust_weights=True)


@pytest.mark.parametrize(
    ("argument", "code", "named"),
    [
        ("when: 2020-01-01", "bad-model-yaml", "field arguments: when"),
        ("a: {b: !!set {c, d}}", "bad-model-yaml", "field arguments: a.b"),
        ("a: !!binary aGk=", "bad-model-yaml", "field arguments: a"),
        ("a: [1, .nan]", "bad-model-yaml", "field arguments: a.1"),
        ("a: {1: b}", "bad-model-yaml", "field arguments: a"),
        ("head: one, head: two", "bad-yaml", "'head'"),
    ],
)
def test_what_cannot_be_an_argument_is_refused_when_it_is_read(tmp_path: Path, argument: str, code: str, named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("id: mine\nname: Mine\nadapter: mace\nlevel_of_theory: PBE\narguments: {" + argument + "}\n")
    with raises_code(code, path, named):
        load_model(path)


def test_mappings_may_be_merged(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("id: m\nname: m\nadapter: mace\nlevel_of_theory: PBE\narguments: {a: &a {x: 1}, b: {<<: *a, x: 2, y: 3}}\n")
    assert load_model(path).arguments["b"] == {"x": 2, "y": 3}


def identity(**fields: Any) -> str:
    definition = ModelDefinition.model_validate({"id": "m", "name": "m", "adapter": "mace", "level_of_theory": "PBE", **fields})
    return resolve_model(definition, environment=ENVIRONMENT).identity


def test_the_identity_is_what_changes_results() -> None:
    base = identity()
    assert identity(name="another", licence="MIT", notes="x") == base
    assert identity(arguments={"head": "PBE"}) != base
    assert identity(adapter="mattersim") != base
    assert identity(charge={"how": "total_charge"}) != base
    definition = load_model("sevennet-0")
    cpu, cuda = (resolve_model(definition, environment=ENVIRONMENT, device=device) for device in ("cpu", "cuda"))
    assert cpu.identity == cuda.identity
    other = PythonEnvironment(Path("python"), "some", {}, "1" * 64)
    assert resolve_model(definition, environment=other).identity != cpu.identity


def test_the_charge_range_is_part_of_the_identity() -> None:
    hears = {"how": "total_charge"}
    ranges: list[dict[str, Any]] = [{}, {"range": [-1, 1]}, {"range": [-3, 1]}]
    assert len({identity(charge=hears | r) for r in ranges}) == 3
    assert identity(charge=hears | {"range": [-1, 1]}) == identity(charge=hears | {"range": [-1, 1], "claim": "charge-aware"})


def test_published_entries_keep_the_identity_of_their_model() -> None:
    """Of registered models: what their results are stored under must not change with the code, or entries are calculated again."""
    entries = sorted((Path(__file__).parents[2] / "leaderboards").glob("*/*/entry.json"))
    assert entries
    for path in entries:
        content = json.loads(path.read_text())
        model, provenance = content["model"], content["provenance"]
        definition = load_model(model["id"])
        bare = resolve_model(definition.model_copy(update={"weights": Weights(source="none")}), environment=ENVIRONMENT)
        pins = provenance["environment_pins_sha256"]
        resolved = dataclasses.replace(bare, weights_sha256=model["weights_sha256"], pins_sha256=pins)
        assert resolved.identity == model["identity"], path.parent


def test_an_edited_module_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{id: m, name: m, adapter: ase_calculator, level_of_theory: none, arguments: {factory: 'my_module:make'}}")
    identities = []
    for content in ("a = 1", "a = 2"):
        (tmp_path / "my_module.py").write_text(content)
        resolved = resolve_model(load_model(path), folder=definition_folder(path), environment=ENVIRONMENT, trust_code=True)
        identities.append(resolved.identity)
    assert identities[0] != identities[1]


def test_what_the_worker_loaded_is_compared() -> None:
    resolved = resolve_model(load_model("sevennet-0"), environment=ENVIRONMENT)
    name, sha256 = next(iter(resolved.weights_sha256.items()))
    good = {"weights": [{"name": name, "path": "x", "sha256": sha256}], "parameters": resolved.definition.weights.parameters}
    check_against_definition(resolved, good)
    with raises_code("wrong-weights", name):
        check_against_definition(resolved, {**good, "weights": [{"name": name, "path": "x", "sha256": "0" * 64}]})
    with raises_code("wrong-weights", "parameters"):
        check_against_definition(resolved, {**good, "parameters": 1})


def test_a_head_has_a_model_of_its_own() -> None:
    model = load_model("mace-mf-sb2se3")
    assert with_head(model, None) == with_head(model, "PBE") == model
    assert with_head(model, "HSE06") == load_model("mace-mf-sb2se3-hse06")
    other = with_head(model, "another")
    assert (other.id, other.arguments["head"], other.level_of_theory) == ("mace-mf-sb2se3-another", "another", "another")
    assert other.weights == model.weights
    assert not choose_model("mace-mf-sb2se3", ModelOptions(head="another")).embedded
    with raises_code("bad-head", "chgnet-0.3.0"):
        with_head(load_model("chgnet-0.3.0"), "PBE")


def test_a_head_of_one_s_own_training_is_not_the_registered_model(tmp_path: Path) -> None:
    """A training of one's own may well have the published model's id."""
    content = load_model("mace-mf-sb2se3").model_dump(mode="json")
    content["weights"] = {"source": "path", "files": [{"path": "own.model"}]}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(content))
    chosen = choose_model(tmp_path / "m.yaml", ModelOptions(head="HSE06", trust_weights=True))
    assert [file.path for file in chosen.definition.weights.files] == ["own.model"]
    assert chosen.definition.arguments["head"] == "HSE06"
    assert not chosen.embedded
