"""Looking at a node of a Ray cluster where a worker has just died."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nas.executors.attempt import Proxy
from nas.executors.ray_desk import Autopsy
from nas.executors.ray_head import Head
from nas.executors.wire import attempt_to
from nas.executors.worker import canary, look_for_kills
from nas.study.attempts import Attempt

# For what a task on that node may take: to start there, and to train a known design.
_LOOK_S, _CANARY_S = 60.0, 120.0


class RayAutopsy(Autopsy):
    """Runs a task on the very node. resources: of a trial, for a known design."""

    def __init__(
        self, ray: Any, resources: dict[str, float], proxy: Proxy | None, head: Head
    ) -> None:
        self._ray, self._resources, self._proxy, self._head = ray, resources, proxy, head

    def headless(self) -> bool:
        """Whether it died with the whole cluster."""
        return not self._head.answers

    def kernel_killed(self, where: dict[str, Any]) -> bool:
        """Whether the kernel has killed anything there for lack of memory since the start."""
        answer = self._there(where, {"num_cpus": 0}, look_for_kills, where["oom_kills"], _LOOK_S)
        return answer is True

    def trouble(self, where: dict[str, Any], attempt: Attempt) -> str | None:
        """Return of what a known design fails there; None where it trains, or nobody can tell."""
        data = attempt_to(attempt)
        found = self._there(where, self._resources, canary, data, _CANARY_S, self._proxy)
        return None if found is None else str(found)

    def _there(
        self,
        where: dict[str, Any],
        resources: dict[str, float],
        look: Callable[..., Any],
        data: Any,
        seconds: float,
        *more: Any,
    ) -> Any:
        from ray.exceptions import GetTimeoutError, RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        on_it = NodeAffinitySchedulingStrategy(where["node"], soft=False)
        task = self._ray.remote(**resources, max_retries=0)(look)
        asked = task.options(scheduling_strategy=on_it).remote(data, *more)
        try:
            return self._ray.get(asked, timeout=seconds)
        except GetTimeoutError:
            self._ray.cancel(asked, force=True)
            return None  # the node is full of other work
        except RayError as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"[:300]
