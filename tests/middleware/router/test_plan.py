"""Where a request may go next, without going there."""

from __future__ import annotations

from asgi_llm.middleware._router_plan import Plan, plan_routes
from asgi_llm.routing.eligibility import Policy
from asgi_llm.routing.retries import Backoff, classify
from asgi_llm.routing.strategies import Load
from asgi_llm.routing.targets import Route
from tests.middleware.router.conftest import route


def plan_of(*routes: Route) -> Plan:
    """The plan of a request for the first of them."""
    planned = plan_routes(routes)
    start = planned[routes[0].name]
    return Plan(start, "chat", None, None, Policy(), Load(), Backoff(), lambda: 0.0)


def names(plan: Plan) -> list[str]:
    """Where it may go after a failure, without those that would be asked again."""
    steps = plan.next(60.0)
    return [step.target.deployment.provider for step in steps if step.target and not step.repeats]


def test_what_a_spare_attempt_passes_by_is_still_there_once() -> None:
    """Also where routes have targets in common, and without those that are being called."""
    plan = plan_of(
        route("a", fallbacks=("behind", "last")),
        route("b", "c", name="behind"),
        route("b", "c", "d", "e", name="last"),
    )
    steps = plan.first()
    under_way = [next(steps).target, next(steps).target][1]
    plan.begun(under_way)
    spare = plan.spare()
    passed_by, taken = next(spare).target, next(spare).target
    plan.begun(taken)
    assert ["b/m", "c/m", "d/m"] == [one and one.id for one in (under_way, passed_by, taken)]
    failure = classify(None, status=500)
    assert failure is not None
    plan.failed(under_way, failure)
    assert ["c", "e"] == names(plan)
