"""Intervals and tests for scores per problem, by scipy and statsmodels.

A score is the share of right samples of one problem, in [0, 1]; arrays of scores end in an axis of problems. Problems are the units that
are sampled: several samples of one problem are not independent and never counted as several problems.

Which procedure serves at which size was chosen by simulation (``python -m ttsv.coverage``, ``results/interval_coverage.md``). The choices
stand in two places, which everything that prints an interval calls: :func:`accuracy_interval` and :func:`difference_interval`.
"""

from ttsv.stats.accuracies import accuracy_interval, clopper_pearson, wilson
from ttsv.stats.bootstrap import hierarchical_bootstrap, paired_bootstrap
from ttsv.stats.differences import MIN_SEEDS, difference_interval, difference_p
from ttsv.stats.exact import Paired, holm, mcnemar, sign_flip, smallest_discordance, smallest_effect
from ttsv.stats.samples import avg_at_k, maj_at_k, pass_at_k

__all__ = [
    "MIN_SEEDS",
    "Paired",
    "accuracy_interval",
    "avg_at_k",
    "clopper_pearson",
    "difference_interval",
    "difference_p",
    "hierarchical_bootstrap",
    "holm",
    "maj_at_k",
    "mcnemar",
    "paired_bootstrap",
    "pass_at_k",
    "sign_flip",
    "smallest_discordance",
    "smallest_effect",
    "wilson",
]
