"""Tables of a study."""

from collections.abc import Collection, Sequence
from math import inf

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from hwsearch.search.encoding import config_of
from hwsearch.search.ledger import judged_configs
from hwsearch.search.objectives import MEASURES, Constraint
from hwsearch.search.space import SearchSpace, canonical


def trials_table(study: optuna.Study, space: SearchSpace, constraints: Sequence[Constraint] = ()) -> pd.DataFrame:
    """One row per finished trial: trial, state, kind, feasible, and the measures of complete ones.

    ``state`` is complete, dropped (not judged on all images, for it could hardly add to the front), does_not_fit (too
    large for the device: its latency is infinite), duplicate (of a candidate judged before) or failed (by another
    program on the same storage); ``feasible`` is false unless complete.
    """
    uniforms = {canonical(config) for config in space.uniforms()}
    rows = []
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            continue
        measures = trial.user_attrs.get("measures", {}) if trial.state == TrialState.COMPLETE else {}
        state = _state(trial)
        feasible = state == "complete" and all(c.violation(measures[c.measure]) <= 0 for c in constraints)
        rows.append(
            {
                "trial": trial.number,
                "state": state,
                "kind": _kind(trial, space, uniforms),
                "feasible": feasible,
                "images": trial.user_attrs.get("n"),
                **{measure: measures.get(measure) for measure in MEASURES},
            }
        )
    table = pd.DataFrame(rows, columns=["trial", "state", "kind", "feasible", "images", *MEASURES])
    return table.astype({"feasible": bool, "images": "Int64", **dict.fromkeys(MEASURES, "float64")})


def _state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        if trial.user_attrs["measures"].get("latency_s") == inf:
            return "does_not_fit"
        return "dropped" if "dropped" in trial.user_attrs else "complete"
    return "duplicate" if "duplicate_of" in trial.user_attrs else "failed"


def _kind(trial: FrozenTrial, space: SearchSpace, uniforms: Collection[object]) -> str | None:
    try:
        return "uniform" if canonical(config_of(space, trial.params)) in uniforms else "mixed"
    except KeyError:  # interrupted before all its parameters were chosen
        return None


def precisions_table(study: optuna.Study, space: SearchSpace) -> pd.DataFrame:
    """Long form, one row per (complete trial, layer): weight_bits, activation_bits, weight_format."""
    rows = [
        {
            "trial": number,
            "layer": layer,
            "weight_bits": precision.weight_bits,
            "activation_bits": precision.activation_bits,
            "weight_format": precision.weight_format,
        }
        for number, config in judged_configs(study, space).items()
        for layer, precision in config.items()
    ]
    return pd.DataFrame(rows)


def groups_table(space: SearchSpace) -> pd.DataFrame:
    """One row per layer: its decision group, whether the user pinned it, and the precisions that it may have."""
    rows = [
        {
            "group": group.name,
            "layer": layer,
            "pinned": layer in space.pinned,
            "precisions": " ".join(map(str, group.precisions)),
        }
        for group in space.groups
        for layer in group.layers
    ]
    return pd.DataFrame(rows)
