"""What a study holds, each trial decoded once."""

from collections.abc import Mapping, Sequence
from math import inf

import optuna
from optuna.trial import FrozenTrial, TrialState

from cost_models import Precision
from hwsearch.search.encoding import config_of, distributions
from hwsearch.search.judgement import Key
from hwsearch.search.objectives import Constraint
from hwsearch.search.space import SearchSpace, canonical


class Ledger:
    """Candidates of a study.

    Attributes:
        judged: Measures of every judged configuration, in the order in which they were read.
        pending: Those that are being judged, with their trials' numbers.
        queued: Those that wait for it.
        begun: Trials that do not wait.
        numbers: Trial of every judged configuration.
        rivals: Measures of those that are feasible, fit the device and were judged on every image.
    """

    def __init__(self, space: SearchSpace, constraints: Sequence[Constraint]) -> None:
        self.judged: dict[Key, Mapping[str, float]] = {}
        self.pending: dict[Key, int] = {}
        self.queued: set[Key] = set()
        self.begun = 0
        self.numbers: dict[Key, int] = {}
        self.rivals: list[Mapping[str, float]] = []
        self._space = space
        self._parameters = len(distributions(space))
        self._constraints = constraints
        self._finished: set[int] = set()

    def read(self, study: optuna.Study) -> None:
        """Take over what has changed since the last time."""
        trials = study.get_trials(deepcopy=False)
        self.begun = sum(trial.state != TrialState.WAITING for trial in trials)
        self.pending = {key: trial.number for trial in trials if (key := self._key(trial, TrialState.RUNNING))}
        self.queued = {key for trial in trials if (key := self._key(trial, TrialState.WAITING))}
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._finished:
                self._finished.add(trial.number)
                if trial.state == TrialState.COMPLETE:
                    self._add(trial)

    def trial_of(self, key: Key) -> int | None:
        """Number of the trial that has this configuration, judged or not."""
        return self.numbers.get(key, self.pending.get(key))

    def _key(self, trial: FrozenTrial, state: TrialState) -> Key | None:
        """A trial's configuration, if the trial is in this state and all its parameters are chosen."""
        if trial.state != state or len(trial.params) < self._parameters:
            return None
        return canonical(config_of(self._space, trial.params))

    def _add(self, trial: FrozenTrial) -> None:
        key = canonical(config_of(self._space, trial.params))
        measures = {name: value for name, value in trial.user_attrs["measures"].items() if value is not None}
        self.judged[key] = measures
        self.numbers[key] = trial.number
        feasible = all(bound.violation(measures[bound.measure]) <= 0 for bound in self._constraints)
        fits = inf not in measures.values()
        if feasible and fits and "dropped" not in trial.user_attrs:
            self.rivals.append(measures)


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Judged trials in the order of their numbers."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def judged_configs(study: optuna.Study, space: SearchSpace) -> dict[int, dict[str, Precision]]:
    """Configuration of each complete trial, by its number."""
    return {trial.number: config_of(space, trial.params) for trial in complete_trials(study)}
