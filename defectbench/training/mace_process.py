"""The training process of mace-torch models: ``python mace_process.py JOB``, in their environment, where defectbench is not installed.

The model is built from mace-torch's own configuration file by mace-torch's own functions. The loop is ours. That of mace-torch 0.3.16 keeps
its state only where the last head improves, keeps averaged parameters instead of the optimiser's, and does not stop early on one device.
One JSON object per line goes to standard output.

On a GPU the step of a small model waits for its hundreds of kernels to be launched, one by one. There it is recorded once, as a CUDA graph
(https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs), and replayed with batches that are padded to one shape.
"""

from __future__ import annotations

import ast
import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mace import data, modules, tools
from mace.tools import torch_geometric
from mace.tools.model_script_utils import configure_model
from mace.tools.scripts_utils import dict_to_array
from torch_ema import ExponentialMovingAverage

STATE = "state.pt"
MODEL = "model.model"


def say(**message: Any) -> None:
    """A line to the parent."""
    print(json.dumps(message), flush=True)


class Job:
    """Everything that is made from the job file: model, data, optimiser.

    Attributes:
        settings: content of the job file.
        folder: of the run.
        heads: names, in the model's order.
        model: without atomic energies, which labels do not hold either; see :meth:`export`.
        train: head → graphs.
        validation: head → graphs.
    """

    def __init__(self, path: Path) -> None:
        self.settings = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        arguments = ["--config", str(self.folder / self.settings["configuration"]), "--device", self.settings["device"]]
        args = tools.build_default_arg_parser().parse_args(arguments)
        args, _ = tools.check_args(args)
        tools.set_seeds(args.seed)
        tools.set_default_dtype(args.default_dtype)
        self.args = args
        self.device = tools.init_device(args.device)
        described = ast.literal_eval(args.heads) if isinstance(args.heads, str) else args.heads
        self.heads = list(described)
        keys = data.KeySpecification()
        data.update_keyspec_from_kwargs(keys, vars(args))
        energies = {head: ast.literal_eval(content["E0s"]) for head, content in described.items()}
        numbers = sorted({int(z) for content in energies.values() for z in content})
        self.table = tools.AtomicNumberTable(numbers)
        self.energies = dict_to_array(energies, self.heads)
        self.train = {head: self._graphs(content.get("train_file"), head, keys) for head, content in described.items()}
        self.validation = {head: self._graphs(content.get("valid_file"), head, keys) for head, content in described.items()}
        for head in self.settings["energies_only"]:
            for graph in self.train.get(head, []):
                graph.forces_weight = torch.zeros_like(graph.forces_weight)
        self.state = self._state()
        if self.state is None:
            everything = [graph for graphs in self.train.values() for graph in graphs]
            args.avg_num_neighbors = modules.compute_avg_num_neighbors(self.loader(everything))
        else:
            args.avg_num_neighbors = self.state["neighbours"]
        args.compute_energy, args.compute_dipole, args.compute_polarizability = True, False, False
        scales = [SimpleNamespace(std=1.0) for _ in self.heads]
        self.model = configure_model(args, None, np.zeros_like(self.energies), None, self.heads, self.table, scales)[0].to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1.0, amsgrad=True)
        self.ema = ExponentialMovingAverage(self.model.parameters(), decay=self.settings["ema_decay"])

    def _state(self) -> dict[str, Any] | None:
        """Where this run was left, or else where the stage before it ended."""
        for name in (STATE, self.settings["initial"]):
            if name is not None and (self.folder / name).is_file():
                found: dict[str, Any] = torch.load(self.folder / name, map_location=self.device, weights_only=True)
                return found | {"resumed": name == STATE}
        return None

    def _graphs(self, name: str | None, head: str, keys: Any) -> list[Any]:
        if name is None:
            return []
        import ase.io

        graphs = []
        for atoms in ase.io.read(self.folder / name, ":"):
            configuration = data.config_from_atoms(atoms, key_specification=keys, head_name=head)
            numbers = [self.table.z_to_index(z) for z in atoms.numbers]
            # total energies are 1e4 eV: what the atoms hold is taken out before float32 rounds it
            configuration.properties["energy"] -= float(self.energies[self.heads.index(head), numbers].sum())
            graphs.append(data.AtomicData.from_config(configuration, z_table=self.table, cutoff=self.args.r_max, heads=self.heads))
        return graphs

    def loader(self, graphs: list[Any]) -> Any:
        """Batches in order."""
        return torch_geometric.dataloader.DataLoader(dataset=graphs, batch_size=self.settings["batch_size"], shuffle=False, drop_last=False)

    def epoch_batches(self, epoch: int) -> list[list[Any]]:
        """All training graphs, heads repeated as told. The order depends on seed and epoch only, so that a run resumes."""
        chosen = [graph for head, graphs in self.train.items() for _ in range(self.settings["repeat"].get(head, 1)) for graph in graphs]
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(self.args.seed * 1_000_003 + epoch)).tolist()
        size = self.settings["batch_size"]
        return [[chosen[i] for i in order[start : start + size]] for start in range(0, len(order), size)]

    def outputs(self, batch: Any, training: bool) -> Any:
        """Energy and forces of a batch."""
        return self.model(batch.to(self.device).to_dict(), training=training, compute_force=True)

    def export(self, path: Path, parameters: list[torch.Tensor]) -> None:
        """Writes averaged parameters, with the atomic energies, as a model that mace-torch loads."""
        from copy import deepcopy

        model = deepcopy(self.model)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), parameters, strict=True):
                parameter.copy_(value)
        model = model.to("cpu").double()
        model.atomic_energies_fn.atomic_energies.copy_(torch.tensor(self.energies, dtype=torch.float64))
        for parameter in model.parameters():
            parameter.requires_grad = True
        _replace(path, model)


def loss(job: Job, batch: dict[str, torch.Tensor], out: Any, phase: dict[str, Any]) -> torch.Tensor:
    """Huber loss of energies per cell and of force components, each a weighted mean: what a batch is padded with has weight 0."""
    huber = torch.nn.functional.huber_loss
    energy = huber(out["energy"], batch["energy"], delta=job.settings["huber_energy"], reduction="none")
    force = huber(out["forces"], batch["forces"], delta=job.settings["huber_forces"], reduction="none").mean(dim=1)
    weight, atom_weight = batch["energy_weight"], batch["atom_weight"]
    energies = (weight * energy).sum() / weight.sum()
    return phase["energy_weight"] * energies + phase["forces_weight"] * (atom_weight * force).sum() / atom_weight.sum().clamp(min=1)


def plain(job: Job, graphs: list[Any]) -> dict[str, torch.Tensor]:
    """A batch as mace-torch makes it, with a weight per atom."""
    batch: dict[str, torch.Tensor] = next(iter(job.loader(graphs))).to(job.device).to_dict()
    batch["atom_weight"] = torch.repeat_interleave(batch["forces_weight"], batch["ptr"][1:] - batch["ptr"][:-1])
    return batch


class Step:
    """A step of the optimiser, batch after batch.

    Attributes:
        job: with model and optimiser.
        total: sum of the losses since it was last set to zero, on the device.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.total = torch.zeros((), device=job.device)
        self.phase: dict[str, Any] = {}
        # a state that was saved on a GPU holds the settings of recorded steps, and the other way round
        recorded = isinstance(self, RecordedStep)
        for group in job.optimizer.param_groups:
            group["capturable"], group["lr"] = recorded, torch.zeros((), device=job.device) if recorded else 0.0
        for state in job.optimizer.state.values():
            state["step"] = state["step"].to(job.device if recorded else "cpu")

    def __call__(self, graphs: list[Any], rate: float, phase: dict[str, Any]) -> None:
        """Takes one step.

        Args:
            graphs: of the batch.
            rate: learning rate.
            phase: weights of the loss.
        """
        self.phase = phase
        for group in self.job.optimizer.param_groups:
            group["lr"] = rate
        self.compute(plain(self.job, graphs))
        self.job.ema.update()

    def compute(self, batch: dict[str, torch.Tensor]) -> None:
        """Forward, backward, and the step."""
        job = self.job
        job.optimizer.zero_grad(set_to_none=True)
        value = loss(job, batch, job.model(batch, training=True, compute_force=True), self.phase)
        value.backward(inputs=list(job.model.parameters()))
        torch.nn.utils.clip_grad_norm_(job.model.parameters(), 10.0)
        job.optimizer.step()
        self.total += value.detach()


PER_GRAPH = ("energy", "energy_weight", "head")
PER_ATOM = ("positions", "forces", "node_attrs", "atom_weight")


def _own_head(x: torch.Tensor, head: torch.Tensor, num_heads: int) -> torch.Tensor:
    """What ``mask_head`` of mace-torch does, without the copy of a number from the CPU, which cannot be recorded."""
    own = torch.arange(num_heads, device=x.device) == head.unsqueeze(1)
    return (x.view(len(x), num_heads, -1) * own.unsqueeze(-1)).view(x.shape)


class RecordedStep(Step):
    """The same step as a CUDA graph.

    A CUDA graph repeats the same kernels on the same memory, so every batch has the same shape. It is padded with one more structure,
    made of isolated atoms at one place, and with edges longer than the cutoff from one of these atoms to itself. Both have weight 0.
    """

    WARM_UP = 5
    """Steps before recording: TorchScript compiles in the first, and the optimiser makes its state."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        graphs = [graph for graphs in job.train.values() for graph in graphs]
        self.graphs = job.settings["batch_size"]
        self.atoms = self.graphs * max(graph.num_nodes for graph in graphs) + 1
        self.edges = self.graphs * max(graph.edge_index.shape[1] for graph in graphs)
        self.embedded = tuple(getattr(job.model, "embedding_specs", {}))
        self.on_device: dict[int, dict[str, torch.Tensor]] = {}
        self.static: dict[str, torch.Tensor] = {}
        self.phase = {name: torch.zeros((), device=job.device) for name in ("energy_weight", "forces_weight")}
        self.steps = 0
        self.recording: Any = None
        self.stream: Any = torch.cuda.Stream() if job.device.type == "cuda" else None
        self.layouts: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
        modules.blocks.mask_head = _own_head

    def _fields(self, graph: Any) -> dict[str, torch.Tensor]:
        """A graph's tensors on the device; kept, since every epoch comes back to it."""
        if id(graph) not in self.on_device:
            fields = {name: getattr(graph, name) for name in (*PER_GRAPH, *self.embedded, "positions", "forces", "node_attrs")}
            fields["atom_weight"] = graph.forces_weight.expand(graph.num_nodes)
            fields |= {"edge_index": graph.edge_index, "shifts": graph.shifts}
            self.on_device[id(graph)] = {name: value.to(self.job.device) for name, value in fields.items()}
        return self.on_device[id(graph)]

    def padded(self, graphs: list[Any]) -> dict[str, torch.Tensor]:
        """A batch in the one shape."""
        fields = [self._fields(graph) for graph in graphs]
        sizes = [len(one["positions"]) for one in fields]
        missing, spare = self.graphs + 1 - len(graphs), self.atoms - sum(sizes)
        device = self.job.device
        out: dict[str, torch.Tensor] = {}
        for name in (*PER_GRAPH, *self.embedded):
            filler = fields[0][name].reshape(1) if name in self.embedded else fields[0][name].new_zeros(1)
            out[name] = torch.cat([one[name].reshape(1) for one in fields] + [filler] * missing)
        for name in PER_ATOM:
            out[name] = torch.cat([one[name] for one in fields] + [fields[0][name].new_zeros((spare, *fields[0][name].shape[1:]))])
        starts = np.cumsum([0, *sizes])
        edges = [one["edge_index"] + int(start) for one, start in zip(fields, starts, strict=False)]
        more = self.edges - sum(edge.shape[1] for edge in edges)
        out["edge_index"] = torch.cat([*edges, torch.full((2, more), self.atoms - 1, device=device)], dim=1)
        out["shifts"] = torch.cat([one["shifts"] for one in fields] + [fields[0]["shifts"].new_full((more, 3), 2 * self.job.args.r_max)])
        out["ptr"], out["batch"] = self._layout(tuple(sizes))
        out["cell"] = torch.zeros((3 * (self.graphs + 1), 3), device=device)
        return out

    def _layout(self, sizes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each structure begins, and whose each atom is; kept, since a copy from the CPU would wait for the step before."""
        if sizes not in self.layouts:
            starts = np.cumsum([0, *sizes]).tolist()
            missing, spare = self.graphs - len(sizes), self.atoms - starts[-1]  # a missing structure has no atoms
            ptr = [*starts, *[starts[-1]] * missing, self.atoms]
            of = [*np.repeat(np.arange(len(sizes)), sizes).tolist(), *[self.graphs] * spare]
            self.layouts[sizes] = torch.tensor(ptr, device=self.job.device), torch.tensor(of, device=self.job.device)
        return self.layouts[sizes]

    def __call__(self, graphs: list[Any], rate: float, phase: dict[str, Any]) -> None:
        """Takes one step; see :class:`Step`."""
        for name, value in self.phase.items():
            value.fill_(phase[name])
        for group in self.job.optimizer.param_groups:
            group["lr"].fill_(rate)
        batch = self.padded(graphs)
        if not self.static:
            self.static = {name: value.clone() for name, value in batch.items()}
        with torch.no_grad():
            for name, value in batch.items():
                self.static[name].copy_(value)
        if self.recording is None and self.steps == self.WARM_UP:
            self._record()
        if self.recording is not None:
            self.recording.replay()
        else:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.compute(dict(self.static))
            torch.cuda.current_stream().wait_stream(self.stream)
        self.steps += 1
        self._average()

    def _record(self) -> None:
        self.recording = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.recording):
            self.compute(dict(self.static))

    def _average(self) -> None:
        """What ``ema.update`` does, in one call for all parameters."""
        ema = self.job.ema
        ema.num_updates += 1
        decay = min(ema.decay, (1 + ema.num_updates) / (10 + ema.num_updates))
        with torch.no_grad():
            torch._foreach_lerp_(ema.shadow_params, [p.detach() for p in self.job.model.parameters()], 1 - decay)


def fit_constants(job: Job) -> None:
    """Sets the readout of the charge embedding so that no head and no charge has a mean error of the energy.

    The readout is linear: least squares of what the model leaves, one head after the other, each starting from the one with the most data.
    At a charge of which a head has no data, the constant follows from that one and from the head's other charges.
    """
    if not hasattr(job.model, "embedding_readout"):
        return
    model = job.model
    weights = next(iter(model.embedding_readout.linear.weight_views()))
    with torch.no_grad():
        order = sorted(range(len(job.heads)), key=lambda head: -len(job.train[job.heads[head]]))
        for head in order:
            weights[:, head] = weights[:, order[0]].clone()
            rows, left = [], []
            for batch in job.loader(job.train[job.heads[head]]):
                out = model(batch.to(job.device).to_dict(), compute_force=False)
                features = model.node_embedding(batch.node_attrs)
                features = features + model.joint_embedding(batch.batch, {key: batch[key] for key in model.embedding_specs})
                rows.append(tools.scatter.scatter_sum(features, batch.batch, dim=0, dim_size=batch.num_graphs))
                left.append(batch.energy - out["energy"])
            matrix = torch.cat(rows).double().cpu().numpy() / math.sqrt(weights.shape[0])  # as e3nn normalises
            step = np.linalg.lstsq(matrix, torch.cat(left).double().cpu().numpy(), rcond=1e-5)[0]
            weights[:, head] += torch.tensor(step).to(weights)


def start_from(job: Job, state: dict[str, Any]) -> None:
    """Takes over the averaged parameters of a stage with one head. Every head's readouts become those of that head.

    What has another shape (one row per charge, constants of heads) stays as it is.
    """
    given = dict(state["model"])
    names = [name for name, _ in job.model.named_parameters()]
    given.update(zip(names, state["ema"]["shadow_params"], strict=True))
    own = job.model.state_dict()
    job.model.load_state_dict(own | {name: value for name, value in given.items() if own[name].shape == value.shape})
    with torch.no_grad():
        for number, readout in enumerate(job.model.readouts):
            if hasattr(readout, "linear"):
                view = next(iter(readout.linear.weight_views()))
                view[:] = given[f"readouts.{number}.linear.weight"].view(-1, 1)
                continue
            first, second = (next(iter(layer.weight_views())) for layer in (readout.linear_1, readout.linear_2))
            size = first.shape[1] // len(job.heads)
            for head in range(len(job.heads)):
                rows = slice(head * size, (head + 1) * size)
                first[:, rows] = given[f"readouts.{number}.linear_1.weight"].view(-1, size)
                second[rows, head] = given[f"readouts.{number}.linear_2.weight"]


def validate(job: Job) -> dict[str, dict[str, float]]:
    """Root mean square errors of the averaged parameters by head: energy per cell (eV) and forces (eV/Å)."""
    found = {}
    with job.ema.average_parameters():
        for head, graphs in job.validation.items():
            energies, forces = [], []
            for batch in job.loader(graphs):
                out = job.outputs(batch, training=False)
                energies.append((out["energy"] - batch.energy).detach().double().cpu())
                forces.append((out["forces"] - batch.forces).detach().double().cpu().flatten())
            if graphs:
                found[head] = {"energy": _rms(energies), "forces": _rms(forces)}
    return found


def _rms(errors: list[torch.Tensor]) -> float:
    return float(torch.cat(errors).square().mean().sqrt())


def _replace(path: Path, content: Any) -> None:
    """A file is whole or not there: the machine may be taken away at any moment."""
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    with partial.open("xb") as file:  # never through a link that somebody put there
        torch.save(content, file)
    partial.replace(path)


def learning_rate(phases: list[dict[str, Any]], epoch: float) -> tuple[float, dict[str, Any]]:
    """The rate at a moment (in epochs), and the phase it is in."""
    for phase in phases:
        if epoch < phase["epochs"]:
            break
        epoch -= phase["epochs"]
    first, last = phase["learning_rate"]
    return first * (last / first) ** min(epoch / phase["epochs"], 1.0), phase


def train_epoch(job: Job, step: Step, epoch: int) -> float:
    """One pass; returns the mean loss."""
    batches, parent = job.epoch_batches(epoch), os.getppid()
    step.total.zero_()
    for number, graphs in enumerate(batches):
        if os.getppid() != parent:  # nobody listens any more, and the same command may run again
            sys.exit(4)
        rate, phase = learning_rate(job.settings["phases"], epoch + number / len(batches))
        step(graphs, rate, phase)
    return float(step.total) / len(batches)


def main(path: Path) -> None:
    """Trains until the last epoch, or until patience ends, and writes the best model.

    The state keeps the parameters of the best epoch, too. A model file can execute code when it is loaded, a state cannot: so the model is
    written again from the state at the end, and what lay there under its name when this process began is never used.
    """
    logging.disable(logging.WARNING)
    job = Job(path)
    kept: list[torch.Tensor] = []
    epoch, best, best_epoch, history = 0, math.inf, -1, []
    if job.state is not None and job.state["resumed"]:
        for name in ("model", "optimizer", "ema"):
            getattr(job, name).load_state_dict(job.state[name])
        epoch, best, best_epoch, history = (job.state[name] for name in ("epoch", "best", "best_epoch", "history"))
        kept = job.state.get("kept", [])  # an earlier version did not keep them
        if job.state["files_sha256"] != job.settings["files_sha256"] or not kept:  # errors on other frames cannot be compared
            best, best_epoch = math.inf, epoch - 1
    else:
        if job.state is not None:
            start_from(job, job.state)
        fit_constants(job)
        job.ema = ExponentialMovingAverage(job.model.parameters(), decay=job.settings["ema_decay"])
    step = RecordedStep(job) if job.settings["record"] else Step(job)
    epochs = sum(phase["epochs"] for phase in job.settings["phases"])
    parameters = sum(p.numel() for p in job.model.parameters())
    say(type="start", epochs=epochs, parameters=parameters, device=str(job.device), history=history)
    while epoch < epochs and epoch - 1 - best_epoch < job.settings["patience"]:
        began = time.monotonic()
        mean = train_epoch(job, step, epoch)
        errors = validate(job)
        score = float(np.mean([error["energy"] + error["forces"] for error in errors.values()]))
        if not math.isfinite(mean) or not math.isfinite(score):
            say(type="error", message=f"the loss is not a number in epoch {epoch}; lower the learning rate")
            sys.exit(3)
        improved = score < best
        if improved:
            best, best_epoch = score, epoch
            kept = [parameter.detach().clone() for parameter in job.ema.shadow_params]
            job.export(job.folder / MODEL, kept)
        rate, _ = learning_rate(job.settings["phases"], epoch)
        epoch += 1
        line = {"epoch": epoch, "rate": rate, "loss": mean, "score": score, "improved": improved, "errors": errors}
        line["seconds"] = round(time.monotonic() - began, 2)
        history.append(line)
        state = {"epoch": epoch, "best": best, "best_epoch": best_epoch, "history": history, "neighbours": job.args.avg_num_neighbors}
        state |= {"files_sha256": job.settings["files_sha256"], "kept": kept}
        for name in ("model", "optimizer", "ema"):
            state[name] = getattr(job, name).state_dict()
        _replace(job.folder / STATE, state)
        say(type="epoch", **line)
    if not kept:
        why = f"{STATE} is of an earlier version and does not hold the parameters of its best epoch"
        say(type="error", final=True, message=f"{why}; evaluate the folder's model with --trust-weights, or choose another --output")
        sys.exit(3)
    job.export(job.folder / MODEL, kept)
    say(type="done", epoch=epoch, best_epoch=best_epoch + 1, score=best, stopped_early=epoch < epochs)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
