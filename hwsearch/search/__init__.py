"""Optuna search over per-layer precisions; knows shapes, bits and costs, but no torch."""

from optuna import Study

from hwsearch.search.chain import Chain
from hwsearch.search.encoding import config_of
from hwsearch.search.judgement import Hopeless, Judge, Judgement, Key, Proposer, never
from hwsearch.search.ledger import complete_trials, judged_configs
from hwsearch.search.locks import Locks, locked
from hwsearch.search.loop import check_n_trials, search_definition, search_precisions
from hwsearch.search.menu import Menu, build_menu
from hwsearch.search.objectives import (
    MEASURES,
    Constraint,
    check_known,
    check_objectives,
    check_reachable,
    parse_constraints,
)
from hwsearch.search.programs import least_predicted_loss, predicted_front
from hwsearch.search.space import Group, SearchSpace, build_space, canonical, match_layers
from hwsearch.search.study import check_resumable, open_locks, open_storage, shared_name, without_password
from hwsearch.search.tables import groups_table, precisions_table, trials_table

__all__ = [
    "MEASURES",
    "Chain",
    "Constraint",
    "Group",
    "Hopeless",
    "Judge",
    "Judgement",
    "Key",
    "Locks",
    "Menu",
    "Proposer",
    "SearchSpace",
    "Study",
    "build_menu",
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
    "least_predicted_loss",
    "locked",
    "match_layers",
    "never",
    "open_locks",
    "open_storage",
    "parse_constraints",
    "precisions_table",
    "predicted_front",
    "search_definition",
    "search_precisions",
    "shared_name",
    "trials_table",
    "without_password",
]
