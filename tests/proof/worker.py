"""A process that forks one worker for each order it reads.

``python -m tests.proof.worker SETTINGS`` with ``MULTIPAY`` as JSON; one order is a
line of JSON, and so is the answer. A worker counts its steps, which are the moments
before each statement, before and after each commit, and before and after the
provider's work; at one of them it dies, stops (where it has no lock in hand), holds on
(anywhere) or loses its connection.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import django
from django.conf import settings

if __name__ == "__main__":
    settings.MULTIPAY = json.loads(sys.argv[1], parse_float=str)
    django.setup()

from django.db import OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.test import Client
from moneyed import Money

from django_multipay import flows, money
from django_multipay.messages import RefundRequest
from django_multipay.models import Payment
from django_multipay.models.operation import new_key
from django_multipay.registry import registry
from tests.flows.test_crash import cut_connection
from tests.flows.test_operation_crash import BookProvider, query_about
from tests.flows.test_plan_races import ChargingBooks

# What a worker can do --------------------------------------------------------------------


def checkout(order: Mapping[str, Any]) -> str:
    """Buy."""
    payment = flows.create_payment(
        provider=order["provider"],
        order_id=order["order_id"],
        amount=Money("100.00", "USD"),
    )
    return str(flows.start_payment(payment))


def callback(order: Mapping[str, Any]) -> str:
    """Take a message at our door."""
    answer = Client(raise_request_exception=False).post(
        order["path"],
        order["body"],
        content_type="application/json",
        headers={"X-Secret": order["secret"]},
    )
    return str(answer.status_code)


def move(order: Mapping[str, Any]) -> str:
    """Refund, capture or void."""
    amounts = [Money(text, "USD") for text in order["amounts"]]
    flow: Callable[..., Any] = getattr(flows, f"{order['act']}_payment")
    with transaction.atomic() if order.get("is_later") else nullcontext():
        flow(Payment.objects.get(pk=order["payment"]), *amounts)
    return "done"


def naive(order: Mapping[str, Any]) -> str:
    """Refund as it is often done: lock, call, save, commit."""
    with transaction.atomic():
        locked = Payment.objects.select_for_update()
        return refund_once(locked.get(pk=order["payment"]), order)


def hasty(order: Mapping[str, Any]) -> str:
    """Refund as it is done even more often: look, call, save."""
    return refund_once(Payment.objects.get(pk=order["payment"]), order)


def refund_once(payment: Payment, order: Mapping[str, Any]) -> str:
    """Refund unless that was done before."""
    if payment.refunds.exists():
        return "refunded before"
    request = RefundRequest(
        key=new_key(),
        query=query_about(payment),
        merchant_reference="R1",
        amount=Money(order["amounts"][0], "USD"),
        refundable=payment.captured,
    )
    registry[payment.provider].refund_payment(request)
    payment.refunds.create(amount_minor=money.to_minor(request.amount))
    return "done"


def charges(order: Mapping[str, Any]) -> str:
    """Charge what plans have due."""
    return str(flows.charge_due_plans())


def sweep(order: Mapping[str, Any]) -> str:
    """Carry on what was interrupted."""
    return str(flows.reconcile())


ACTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "checkout": checkout,
    "callback": callback,
    "capture": move,
    "refund": move,
    "void": move,
    "naive": naive,
    "hasty": hasty,
    "charges": charges,
    "sweep": sweep,
}

# Steps -------------------------------------------------------------------------------------


class Steps:
    """Counts the steps of a worker; at number ``at`` its end comes."""

    def __init__(self, at: int, fate: str, output: int) -> None:
        self.at = at
        self.fate = fate
        self.output = output
        self.count = 0

    def passes(self, what: str) -> None:
        """One step."""
        # Django leaves its block before it commits.
        has_lock = connection.in_atomic_block or what == "before COMMIT"
        if self.fate == "stop" and has_lock:
            return  # Who is stopped with a lock in hand is another proof's matter.
        self.count += 1
        if self.count != self.at:
            return
        tell(self.output, {"point": what})
        match self.fate:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop" | "hold":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "cut":
                cut_connection()

    def watch(self, owner: Any, name: str, what: str) -> None:
        """Make steps of the moments before and after ``owner.name``."""
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.passes(f"before {what}")
            result = original(*args, **kwargs)
            self.passes(f"after {what}")
            return result

        setattr(owner, name, watched)

    def watch_statements(self) -> None:
        """Make a step of the moment before each statement, in any thread."""
        original = CursorWrapper._execute  # type: ignore[attr-defined]
        steps = self

        def execute(wrapper: Any, sql: str, params: Any, *rest: Any) -> Any:
            words = sql.split()
            steps.passes(f"before {' '.join(words[:3])}")
            return original(wrapper, sql, params, *rest)

        CursorWrapper._execute = execute  # type: ignore[attr-defined]


def tell(output: int, said: Mapping[str, Any]) -> None:
    """Write one line at once."""
    os.write(output, f"{json.dumps(said)}\n".encode())


def work(order: Mapping[str, Any], output: int) -> None:
    """Do what the order says, unless something happens."""
    steps = Steps(order.get("at", 0), order.get("fate", ""), output)
    steps.watch_statements()
    steps.watch(BaseDatabaseWrapper, "_commit", "COMMIT")
    steps.watch(BookProvider, "write", "the provider's work")
    steps.watch(ChargingBooks, "charge_token", "the provider's work")
    steps.watch(BookProvider, "fetch_payment", "an inquiry")
    try:
        result = ACTS[order["act"]](order)
    except OperationalError as error:
        result = f"OperationalError: {error}"
    except Exception as error:  # noqa: BLE001  (whoever gave the order judges it)
        result = type(error).__name__
    tell(output, {"result": result, "steps": steps.count})


def fork(order: Mapping[str, Any], gate: int | None = None) -> tuple[int, int]:
    """Return the process and the pipe of a worker; it starts when ``gate`` closes."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    try:
        if gate is not None:
            connection.ensure_connection()
            tell(writing, {"ready": True})
            os.read(gate, 1)
        work(order, writing)
    finally:
        os._exit(0)


def read_all(pipe: int) -> Sequence[dict[str, Any]]:
    """Return everything a worker has said until its end."""
    with open(pipe, encoding="utf-8") as lines:
        return [json.loads(line, parse_float=str) for line in lines]


# Orders -----------------------------------------------------------------------------------

stopped: dict[int, int] = {}


def alone(order: Mapping[str, Any]) -> dict[str, Any]:
    """Let one worker do it; return how it ended and what it said."""
    child, pipe = fork(order)
    _, status = os.waitpid(child, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        stopped[child] = pipe
        return {"stopped": child}
    said = {key: value for line in read_all(pipe) for key, value in line.items()}
    return {**said, "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


def go_on(order: Mapping[str, Any]) -> dict[str, Any]:
    """Continue a worker that was stopped; return what it said in the end."""
    child = order["stopped"]
    os.kill(child, signal.SIGCONT)
    os.waitpid(child, 0)
    said = read_all(stopped.pop(child))
    return {key: value for line in said for key, value in line.items()}


def together(order: Mapping[str, Any]) -> dict[str, Any]:
    """Let many do it at the same moment; return the result of each."""
    if order.get("preloaded"):
        Payment.objects.count()
        connections.close_all()
    gate, latch = os.pipe()
    crowd = [fork(one, gate) for one in order["crowd"]]
    for _, pipe in crowd:
        os.read(pipe, len(b'{"ready": true}\n'))
    # One byte for each: they all hold the other end, so it would never be seen closed.
    os.write(latch, b"!" * len(crowd))
    results = []
    for child, pipe in crowd:
        said = read_all(pipe)
        os.waitpid(child, 0)
        results.append(said[-1]["result"])
    os.close(gate)
    os.close(latch)
    return {"results": results}


def main() -> None:
    """Answer orders until there are no more."""
    for line in sys.stdin:
        order = json.loads(line, parse_float=str)
        kinds = {"stopped": go_on, "crowd": together}
        answer = next((kinds[key] for key in kinds if key in order), alone)
        sys.stdout.write(f"{json.dumps(answer(order))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
