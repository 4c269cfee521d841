"""Does the model's picture of the atoms know the charge?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectbench.calculations.plan import PlanInput
from defectbench.scoring.frames import ReferenceFrame, state_frames
from defectbench.scoring.intervals import rounded
from defectbench.scoring.metrics import Metrics, NotAvailable, mean_of_sums
from defectbench.scoring.task import MetricValue, ScoringInput, TaskResult, read_metrics
from defectbench.tasks.descriptors.rows import FrameRow, StateRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from defectbench.calculations.requests import Calculation
    from defectbench.calculations.results import DescriptorsResult

    Floats = NDArray[np.float64]


FRAMES = 12
"""Frames of one charge state that are described."""

NEGLIGIBLE = 1e-10
"""Descriptors that vary by less than this fraction of their size do not vary."""

METRICS, WEIGHT = read_metrics(Path(__file__).with_name("metrics.yaml"))

DESCRIPTION = (
    "For frames of the DFT relaxations, the model's descriptor averaged over the atoms minus that of the neutral host; principal "
    "components of these, coloured by charge, and the silhouette score of the separation by charge. Scored is what the charge adds: the "
    "same separation of the same frames described as neutral is subtracted. Some models expose no descriptors."
)


def frames(scoring: ScoringInput | PlanInput) -> list[ReferenceFrame]:
    """The frames that are described."""
    dataset = scoring.dataset
    states = sorted(scoring.states, key=lambda s: (s.defect, s.charge))
    return [f for s in states for f in state_frames(dataset, s.defect, s.charge, dataset.level, FRAMES)]


def calculations(plan: PlanInput) -> list[Calculation]:
    """Averaged descriptors of the frames at their charge and as neutral, and of the neutral host."""
    chosen = frames(plan)
    if not chosen:
        return []
    at_charge = [plan.ask.descriptors(f.atoms, f.charge) for f in chosen]
    return [plan.ask.descriptors(plan.dataset.host, 0), *at_charge, *(plan.ask.descriptors(f.atoms, 0) for f in chosen)]


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """A principal component analysis.

    Attributes:
        coordinates: (n, k), along the components, largest variance first.
        explained: (k,), fraction of the variance.
        varies: False if all rows are equal to rounding.
    """

    coordinates: Floats
    explained: Floats
    varies: bool = True


def principal_components(features: Floats) -> PrincipalComponents:
    """Principal components of rows by singular value decomposition (Pearson 1901, doi:10.1080/14786440109462720).

    The sign of each component is chosen so that its largest loading is positive.

    Args:
        features: (n, D).

    Returns:
        All min(n, D) components.
    """
    centred = features - features.mean(axis=0)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    largest = right[np.arange(len(right)), np.abs(right).argmax(axis=1)]
    signs = np.where(largest < 0, -1.0, 1.0)
    variance = singular**2
    total = variance.sum()
    varies = bool(np.abs(centred).max() > NEGLIGIBLE * float(np.abs(features).max()))
    return PrincipalComponents(left * singular * signs, variance / total if total > 0 else np.zeros_like(variance), varies)


def silhouettes(points: Floats, labels: Sequence[object]) -> Floats:
    """Silhouette of every point: (b − a) / max(a, b), Euclidean (Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7).

    a is the mean distance to the other points of its label, b the smallest mean distance to the points of another label. A point that is
    alone in its label, or at no distance from everything, has 0.

    Args:
        points: (n, k).
        labels: n.

    Returns:
        (n,), from −1 to 1.

    Raises:
        ValueError: fewer than two labels.
    """
    order = {label: number for number, label in enumerate(sorted(set(labels), key=str))}
    if len(order) < 2:
        raise ValueError("a silhouette needs at least two labels")
    own = np.array([order[label] for label in labels])
    member = own[:, None] == np.arange(len(order))
    size = member.sum(axis=0)
    distances = np.sqrt(np.maximum(((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=-1), 0.0))
    sums = distances @ member
    mine = np.arange(len(points))
    inside = sums[mine, own] / np.maximum(size[own] - 1, 1)
    outside = sums / size
    outside[mine, own] = np.inf
    nearest = outside.min(axis=1)
    scale = np.maximum(inside, nearest)
    alone = (size[own] == 1) | (scale <= 0)
    return np.where(alone, 0.0, (nearest - inside) / np.where(scale > 0, scale, 1.0))


@dataclass(frozen=True, eq=False)
class Described:
    """The descriptors of one defect's frames.

    Attributes:
        defect: name.
        frames: those with a descriptor.
        features: (n, D), defect minus host.
        components: of the features.
        neutral: components of the same frames described as neutral; None if one of them failed.
    """

    defect: str
    frames: tuple[ReferenceFrame, ...]
    features: Floats
    components: PrincipalComponents
    neutral: PrincipalComponents | None

    @property
    def charges(self) -> list[int]:
        """Charge of each frame."""
        return [f.charge for f in self.frames]

    def silhouettes(self, components: int | None) -> Floats:
        """Of each frame by charge, along the first components or all; 0 for features that do not vary."""
        return _separation(self.components, self.charges, components)

    def neutral_silhouettes(self) -> Floats | None:
        """Of each frame by charge along the first two components, if all frames are described as neutral."""
        return None if self.neutral is None else _separation(self.neutral, self.charges, 2)


def _separation(components: PrincipalComponents, charges: Sequence[int], count: int | None) -> Floats:
    if not components.varies:
        return np.zeros(len(charges))
    return silhouettes(components.coordinates[:, :count], charges)


def described(scoring: ScoringInput) -> tuple[list[Described], str | None, list[ReferenceFrame]]:
    """Descriptors by defect, why the model has none at all (else None), and the frames that failed."""
    host, why = _vector(scoring.answers.descriptors(scoring.dataset.host, 0))
    chosen = frames(scoring)
    if not chosen:
        return [], None, []
    if host is None:
        return [], why, list(chosen)
    failed: list[ReferenceFrame] = []
    found: dict[str, list[tuple[ReferenceFrame, Floats, Floats | None]]] = {}
    for frame in chosen:
        vector, reason = _vector(scoring.answers.descriptors(frame.atoms, frame.charge))
        neutral, _ = _vector(scoring.answers.descriptors(frame.atoms, 0))
        if vector is None or vector.shape != host.shape:
            failed.append(frame)
            why = why or reason
        else:
            found.setdefault(frame.defect, []).append((frame, vector - host, neutral))
    out = []
    for defect, items in found.items():
        features = np.array([v for _, v, _ in items])
        known = [n for _, _, n in items if n is not None and n.shape == host.shape]
        neutral_components = principal_components(np.array(known)) if len(known) == len(items) else None
        out.append(Described(defect, tuple(f for f, _, _ in items), features, principal_components(features), neutral_components))
    return out, why if not out else None, failed


def _vector(result: DescriptorsResult | None) -> tuple[Floats | None, str]:
    """The averaged descriptor (D,) of a stored result, or why there is none."""
    if result is None:
        return None, "not calculated"
    if result.descriptors is None:
        return None, result.failure or result.status
    return np.array(result.descriptors, dtype=float).mean(axis=0), ""


def unsupported(scoring: ScoringInput) -> bool:
    """Whether the model exposes no descriptors, as opposed to failing to give them."""
    result = scoring.answers.descriptors(scoring.dataset.host, 0)
    return result is not None and result.status == "unsupported"


def score(scoring: ScoringInput) -> TaskResult:
    """Silhouettes by charge and explained variance, frame by frame; see ``docs/metrics.md``."""
    found, why, failed = described(scoring)
    judged = [d for d in found if len(set(d.charges)) > 1]
    flat, whole = [d.silhouettes(2) for d in judged], [d.silhouettes(None) for d in judged]
    neutral = [d.neutral_silhouettes() for d in judged]
    rows: list[StateRow] = []
    table: list[FrameRow] = []
    for d in found:
        at = next((i for i, other in enumerate(judged) if other is d), None)
        both = (None, None, None) if at is None else (flat[at], whole[at], neutral[at])
        explained = [float(x) for x in d.components.explained[:2]] + [0.0, 0.0]
        coordinates = np.hstack([d.components.coordinates, np.zeros((len(d.frames), 2))])
        for charge in sorted(set(d.charges)):
            here = [i for i, q in enumerate(d.charges) if q == charge]
            rows.append(
                {
                    "defect": d.defect,
                    "charge": charge,
                    "frames": len(here),
                    "dimension": d.features.shape[1],
                    "silhouette": None if both[0] is None else rounded(float(both[0][here].mean())),
                    "silhouette_neutral": None if both[2] is None else rounded(float(both[2][here].mean())),
                    "silhouette_all": None if both[1] is None else rounded(float(both[1][here].mean())),
                    "explained_1": rounded(explained[0]),
                    "explained_2": rounded(explained[1]),
                    "reason": None if both[0] is not None else "only one charge of this defect has frames",
                }
            )
        for i, f in enumerate(d.frames):
            table.append(
                {
                    "defect": f.defect,
                    "charge": f.charge,
                    "configuration": f.configuration,
                    "frame": f.index,
                    "component_1": rounded(float(coordinates[i, 0]), 8),
                    "component_2": rounded(float(coordinates[i, 1]), 8),
                    "silhouette": None if both[0] is None else rounded(float(both[0][i])),
                    "silhouette_neutral": None if both[2] is None else rounded(float(both[2][i])),
                }
            )
    return TaskResult(
        task="descriptors",
        metrics=_metrics(scoring, found, judged, (flat, whole, neutral), why, failed),
        rows=tuple(rows),
        baselines={"charge-blind": {"silhouette_gain": 0.0}} if judged else {},
        notes=tuple(_notes(scoring, found, judged, why, len(failed))),
        tables={"frames": tuple(table)},
    )


def _metrics(
    scoring: ScoringInput,
    found: Sequence[Described],
    judged: Sequence[Described],
    values: tuple[Sequence[Floats], Sequence[Floats], Sequence[Floats | None]],
    why: str | None,
    failed: Sequence[ReferenceFrame],
) -> tuple[MetricValue, ...]:
    reason = why or ("only one charge of each defect has frames" if found else "no DFT frames for the selected charge states")
    nothing = NotAvailable(reason, applies=not unsupported(scoring) and bool(failed))
    metrics = Metrics(METRICS, empty=nothing)
    flat, whole, neutral = values
    if judged and any(array is None for array in neutral):
        metrics.lacking("silhouette_gain", NotAvailable("the model failed to describe a frame as neutral", applies=True))
    else:
        gains = [_difference(a, b) for a, b in zip(flat, neutral, strict=True) if b is not None]
        misses = [f for f in failed if f.defect in {d.defect for d in judged}]
        metrics.statistic("silhouette_gain", _by_state(judged, gains, misses), mean_of_sums)
    metrics.statistic("silhouette", _by_state(judged, flat), mean_of_sums)
    metrics.statistic("silhouette_all", _by_state(judged, whole), mean_of_sums)
    shares = np.array([[float(d.components.explained[:2].sum()) * len(d.frames), len(d.frames)] for d in found])
    metrics.statistic("explained_variance", shares, mean_of_sums)
    return metrics.done()


def _difference(first: Floats, second: Floats) -> Floats:
    """Rounded to 1e-9: two decompositions of equal numbers differ in the last digits, which is not a response."""
    return np.asarray(np.round(first - second, 9) + 0.0)


def _by_state(judged: Sequence[Described], arrays: Iterable[Floats], misses: Iterable[ReferenceFrame] = ()) -> Floats:
    """(sum of silhouettes, number of frames) of each charge state; frames that are misses count as −1."""
    sums: dict[tuple[str, int], Floats] = {}
    for frame in misses:
        sums.setdefault((frame.defect, frame.charge), np.zeros(2))[:] += (-1.0, 1.0)
    for d, values in zip(judged, arrays, strict=True):
        for frame, value in zip(d.frames, values, strict=True):
            sums.setdefault((frame.defect, frame.charge), np.zeros(2))[:] += (float(value), 1.0)
    return np.array([sums[key] for key in sorted(sums, key=str)])


def _notes(scoring: ScoringInput, found: Sequence[Described], judged: Sequence[Described], why: str | None, failed: int) -> list[str]:
    notes = []
    if why is not None:
        notes.append(f"No descriptors: {why}.")
    elif failed:
        notes.append(f"{failed} frames have no descriptor: they count as −1 in the separation by charge and are missing in the figure.")
    alone = [d.defect for d in found if d not in judged]
    if alone:
        notes.append(f"Only one charge of {', '.join(alone)} has frames, so there is nothing to separate.")
    if judged and scoring.charge_class == "charge-blind":
        notes.append("The model takes no charge: only DFT's different structures separate its descriptors by charge.")
    if any(not d.components.varies for d in found):
        notes.append("Descriptors that do not vary count as not separated (0).")
    return notes
