"""Optuna search over per-layer precisions; knows shapes, bits and costs, but no torch."""

from optuna import Study

from hwsearch.search.chain import Chain
from hwsearch.search.encoding import config_of
from hwsearch.search.judgement import Judge, Judgement, Key, Proposer
from hwsearch.search.ledger import complete_trials, judged_configs
from hwsearch.search.locks import Locks, locked
from hwsearch.search.loop import check_n_trials, search_definition, search_precisions
from hwsearch.search.objectives import (
    MEASURES,
    Constraint,
    check_known,
    check_objectives,
    check_reachable,
    parse_constraints,
)
from hwsearch.search.space import Group, SearchSpace, build_space, canonical
from hwsearch.search.study import check_resumable, open_locks, open_storage, shared_name, without_password
from hwsearch.search.tables import groups_table, precisions_table, trials_table

__all__ = [
    "MEASURES",
    "Chain",
    "Constraint",
    "Group",
    "Judge",
    "Judgement",
    "Key",
    "Locks",
    "Proposer",
    "SearchSpace",
    "Study",
    "build_space",
    "canonical",
    "check_known",
    "check_n_trials",
    "check_objectives",
    "check_reachable",
    "check_resumable",
    "complete_trials",
    "config_of",
    "groups_table",
    "judged_configs",
    "locked",
    "open_locks",
    "open_storage",
    "parse_constraints",
    "precisions_table",
    "search_definition",
    "search_precisions",
    "shared_name",
    "trials_table",
    "without_password",
]
