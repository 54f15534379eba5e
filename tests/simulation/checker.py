"""The checker: which promises a history shows broken. Pure functions over plain records, which share no code with the engine.

It knows the rules, the forms of the scripts' arguments and replies, and the names of the keys; everything else it works out anew.
"""

from __future__ import annotations

from tests.simulation.evidence import Evidence
from tests.simulation.flow_checks import COUNTING_CHECKS, FLOW_CHECKS
from tests.simulation.leak_checks import LEAK_CHECKS
from tests.simulation.middleware_checks import MIDDLEWARE_CHECKS
from tests.simulation.order_checks import ORDER_CHECKS
from tests.simulation.release_checks import RELEASE_CHECKS
from tests.simulation.run_checks import RUN_CHECKS
from tests.simulation.tasks import TASK_CHECKS
from tests.simulation.typed import TYPED_CHECKS

__all__ = ["CHECKS", "Evidence", "check"]

CHECKS = (
    *RUN_CHECKS,
    *FLOW_CHECKS,
    *ORDER_CHECKS,
    *RELEASE_CHECKS,
    *TYPED_CHECKS,
    *TASK_CHECKS,
    *MIDDLEWARE_CHECKS,
    *LEAK_CHECKS,
)


def check(evidence: Evidence) -> list[str]:
    """All problems, each with the rule that it breaks."""
    counted = COUNTING_CHECKS if evidence.plan.empties else ()
    return [problem for each in CHECKS if each not in counted for problem in each(evidence)]
