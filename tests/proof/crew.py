"""The side of the tests: orders for the processes of `tests.proof.worker`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.flows.mortals import Forks


class Crew(Forks):
    """Workers that carry out what `tests.proof.worker` knows."""

    def __init__(self, multipay: Mapping[str, Any]) -> None:
        super().__init__("-m", "tests.proof.worker", json.dumps(multipay))

    def order(self, **order: Any) -> dict[str, Any]:
        """Give one order and return the answer."""
        answer: dict[str, Any] = json.loads(self.answer_to(**order), parse_float=str)
        return answer

    def all_at_once(self, orders: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Give orders to as many workers, from the same moment; return the results."""
        results: Sequence[str] = self.order(crowd=list(orders))["results"]
        return results
