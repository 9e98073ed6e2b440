"""Claiming candidates: no two workers judge the same one, and what a dead worker left is judged again."""

import time
from collections.abc import Container
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from cost_models import BitConfig, Precision
from hwsearch.search.encoding import distributions, encode, suggest
from hwsearch.search.judgement import Key, Proposer
from hwsearch.search.ledger import Ledger
from hwsearch.search.locks import Locks
from hwsearch.search.space import SearchSpace, canonical
from hwsearch.search.study import SamplerFactory

MAX_REPEATS = 3
"""Duplicates in a row after which a neighbour that was not judged is taken instead of asking once more."""

WAIT_S = 0.05
"""Between looks at the last candidates, which other workers judge."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that this worker alone judges."""

    trial: optuna.Trial
    config: BitConfig
    key: Key


class Candidates:
    """The candidates of one worker: first the queue, then what the proposer chooses, then what the sampler does.

    Args:
        study: The study, perhaps shared with other workers.
        storage: Where it is kept.
        space: Its space.
        ledger: What it holds.
        locks: Shared with the other workers.
        proposer: As for :func:`hwsearch.search.search_precisions`.
        make_sampler: Makes the sampler; it is seeded from ``seed`` and the number of trials begun, for a search that is
            resumed, or another worker, would otherwise ask for the same candidates again.
        seed: Seed of the search.
        target: Judged candidates to end with.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        space: SearchSpace,
        ledger: Ledger,
        locks: Locks,
        proposer: Proposer | None,
        make_sampler: SamplerFactory,
        seed: int,
        target: int,
    ) -> None:
        self.ledger = ledger
        self.worker = uuid4().hex
        self._study = study
        self._storage = storage
        self._space = space
        self._locks = locks
        self._proposer = proposer
        self._seed = seed
        self._target = target
        with locks.turn():
            self._read()
            study.sampler = make_sampler(int(np.random.SeedSequence([seed, ledger.begun]).generate_state(1)[0]))
            for config in space.uniforms():
                key = canonical(config)
                if key not in ledger.queued and ledger.trial_of(key) is None:
                    self._enqueue(config)

    def next(self) -> Candidate | None:
        """Claim a candidate; None once as many as wanted are judged, by whomever."""
        while True:
            with self._locks.turn():
                self._read()
                if len(self.ledger.judged) >= self._target:
                    return None
                if len(self.ledger.judged) + len(self.ledger.pending) < self._target:
                    return self._claim()
            time.sleep(WAIT_S)

    def is_mine(self, trial: optuna.Trial) -> bool:
        """Whether no other worker has taken the trial over, as they do when the connection to a database is lost."""
        known = self._study.get_trials(deepcopy=False)[trial.number]
        return known.state == TrialState.RUNNING and known.user_attrs.get("worker") == self.worker

    def _read(self) -> None:
        """Read the study, and let trials of dead workers wait again, with what was chosen for them so far.

        To fail them would lose candidates of the queue, and BruteForceSampler refuses failed trials that lack
        parameters.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get("worker")
            if worker is None or not self._locks.is_living(worker):  # None: it died while it chose
                study_id = self._storage.get_study_id_from_name(self._study.study_name)
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
                self._storage.set_trial_state_values(trial_id, TrialState.WAITING)
        self.ledger.read(self._study)

    def _claim(self) -> Candidate:
        repeats = 0
        while True:
            if self._proposer and not self.ledger.queued:
                proposal = self._proposer.propose(self.ledger.judged, self.ledger.pending)
                if proposal is not None:
                    self._enqueue(proposal)
            trial = self._study.ask()
            config = suggest(trial, self._space)
            key = canonical(config)
            self.ledger.queued.discard(key)
            first = self.ledger.trial_of(key)
            if first is None:
                trial.set_user_attr("worker", self.worker)
                return Candidate(trial, config, key)
            trial.set_user_attr("duplicate_of", first)
            self._study.tell(trial, state=TrialState.FAIL)
            repeats += 1
            if repeats % MAX_REPEATS == 0:
                taken = {*self.ledger.judged, *self.ledger.pending}
                rng = np.random.default_rng([self._seed, trial.number])
                self._enqueue(unjudged_neighbour(self._space, config, taken, rng))

    def _enqueue(self, config: BitConfig) -> None:
        """Let a configuration wait in the queue; in one record, where Optuna's own queue writes one per parameter."""
        parameters = encode(self._space, config)
        waiting = create_trial(state=TrialState.WAITING, params=parameters, distributions=distributions(self._space))
        self._study.add_trial(waiting)
        self.ledger.queued.add(canonical(config))


def unjudged_neighbour(
    space: SearchSpace, config: BitConfig, taken: Container[Key], rng: np.random.Generator
) -> dict[str, Precision]:
    """Change random decisions of ``config``, one after the other, until the candidate is new."""
    choices = {group.name: config[group.layers[0]] for group in space.groups}
    open_groups = [group for group in space.groups if len(group.precisions) > 1]
    while canonical(space.config(choices)) in taken:
        group = open_groups[rng.integers(len(open_groups))]
        choices[group.name] = group.precisions[rng.integers(len(group.precisions))]
    return space.config(choices)
