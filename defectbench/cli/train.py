"""``defectbench train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from defectbench.cli.arguments import DatasetOption, DeviceName, DeviceOption, EnvironmentOption, path_of, text_of, writable_below

if TYPE_CHECKING:
    from rich.console import Console

    from defectbench.training.register import Registered
    from defectbench.training.run import Epoch, Training

Recipe = Annotated[
    str, typer.Argument(parser=text_of("RECIPE"), metavar="RECIPE", help="Recipe name, e.g. mace-mf, or path of a recipe YAML.")
]


def train(
    recipe: Recipe,
    dataset: DatasetOption = "sb2se3-vacancies",
    preset: Annotated[
        str | None, typer.Option("--preset", parser=text_of("--preset"), metavar="NAME", help="Preset of the recipe, e.g. tiny.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", parser=path_of("--output"), metavar="FOLDER", help="Training folder. Default: defectbench-training/MODEL."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", parser=text_of("--name"), metavar="ID", help="Model id. Default: RECIPE-DATASET.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of parameters and order. Default: the recipe's.")] = None,
    device: DeviceOption = DeviceName.cpu,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    environment: EnvironmentOption = None,
) -> None:
    """Train a model on a dataset, by its splits, and register it as a model YAML.

    An interrupted training resumes when the same command is given again, also on another machine with a copy of the folder.
    """
    from defectbench.base.errors import Interrupted
    from defectbench.cli.render import make_console
    from defectbench.datasets.catalogue import load_dataset
    from defectbench.training.recipe import load_recipe
    from defectbench.training.register import default_name, register
    from defectbench.training.run import MODEL_FILE
    from defectbench.training.run import train as run

    console = make_console()
    data, how = load_dataset(dataset), load_recipe(recipe, preset=preset, seed=seed)
    folder = output or Path("defectbench-training") / (name or default_name(how, data))
    writable_below(folder)
    try:
        with console.status("preparing") as status:

            def show(epoch: Epoch) -> None:
                text = _line(epoch)
                status.update(text)
                if not console.is_terminal or epoch.improved:
                    console.print(text, highlight=False, markup=False, soft_wrap=True)

            done = run(
                data,
                how,
                folder,
                device=device.value,
                threads=threads,
                environment=environment,
                on_line=lambda line: status.update(line[:100].replace("[", "(")),
                on_epoch=show,
            )
            status.update(f"certifying {folder / MODEL_FILE}, as this run wrote it".replace("[", "("))
            made = register(done, data, how, name=name, environment=environment)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; finished epochs are stored, the same command resumes from there") from None
    _report(console, done, made)


def _line(epoch: Epoch) -> str:
    errors = ", ".join(f"{level} {e['energy']:.3f} eV per cell {e['forces']:.3f} eV/Å" for level, e in epoch.errors.items())
    return f"{epoch.stage} {epoch.epoch}/{epoch.epochs}: {errors}, {epoch.seconds:.0f} s" + (" (best)" if epoch.improved else "")


def _report(console: Console, done: Training, made: Registered) -> None:
    from defectbench.base.states import format_charge

    for level in done.selection.missing_levels:
        console.print(f"level {level} of the recipe has no training frame in this dataset; it was left out", highlight=False, markup=False)
    for level, charges in done.selection.missing_charges.items():
        named = ", ".join(map(format_charge, charges))
        console.print(f"{level} has no training frame at charge {named}: do not rely on this head there", highlight=False, markup=False)
    for level, count in done.selection.left_out.items():
        console.print(f"{count} frames of {level} were left out: their forces are above the recipe's max_force", highlight=False)
    why = "no improvement for the recipe's patience" if done.stopped_early else "the last epoch was reached"
    console.print(f"best epoch {done.best.epoch} of {len(done.history)} ({why})", highlight=False)
    console.print(f"certificate: {made.certificate.charge_class}", highlight=False)
    for check in made.certificate.failed:
        console.print(f"  failed: {check.reason}", highlight=False, markup=False)
    for level, place in made.definitions.items():
        console.print(f"{level}: {place}", highlight=False, markup=False, soft_wrap=True)
    first = next(iter(made.definitions.values()))
    console.print(f"next: defectbench evaluate --model {first} --trust-weights", highlight=False, markup=False, soft_wrap=True)
