"""Healing: whatever a crash or a lost message left open is found and finished.

Small loops, each over one kind of row, and each row by itself: it is taken first, so
that many workers share the rows, then worked on outside of any transaction. A worker
that dies in between loses nothing: what it took falls due again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import connection, connections
from django.db.models import Count, F, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from django_multipay import ledger
from django_multipay.conf import conf
from django_multipay.enums import Verdict
from django_multipay.exceptions import MultipayError, ProviderConfigurationError
from django_multipay.flows.endpoints import deliver_endpoints
from django_multipay.flows.guards import refuse_open_transaction
from django_multipay.flows.health import record_health
from django_multipay.flows.idempotency import forget_expired_requests
from django_multipay.flows.notices import deliver_notices, tell
from django_multipay.flows.operations import resume_operation, sync_refund
from django_multipay.flows.sync import (
    Answer,
    apply_answer,
    apply_answers,
    end_if_abandoned,
    sync_claimed,
)
from django_multipay.flows.tokens import expiring_tokens, tell_of_expiring_tokens
from django_multipay.flows.webhooks import replay_delivery
from django_multipay.ledger import claims
from django_multipay.ledger.endpoints import due_endpoint_deliveries
from django_multipay.ledger.idempotency import expired_keys
from django_multipay.messages import Health
from django_multipay.models import (
    Notice,
    Operation,
    Payment,
    Refund,
    WebhookDelivery,
)
from django_multipay.registry import registry

logger = logging.getLogger("django_multipay.flows")

MOST_PROBLEMS = 20
"""How many problems a report spells out; it counts them all."""

Progress = Callable[[int, int], None]
"""Called with how many rows were worked on, and how many were due at the start."""


# What there is to do --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Rows of accounts: which are due, how one is taken, how one is worked on."""

    name: str
    due: Callable[[], QuerySet[Any]]
    """The rows to work on now, by columns of their own."""
    moment: str
    """The column by which they are due; the oldest come first."""
    postponed: Callable[[], Mapping[str, Any]]
    """The values that make a row the taker's; it falls due again by itself."""
    work: Callable[[Any], bool | Answer]
    """Does what is to be done; says whether it counts. May raise: the row only.

    An `Answer` is what is left to be done: to apply it, with those of other rows.
    """
    accounts: Sequence[str] = ("payment__provider",)
    """Where the alias stands; the first that is there."""
    born: str = "created_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """Work that is of no account: one function that takes its rows itself."""

    name: str
    due: Callable[[], QuerySet[Any]]
    moment: str
    """The column by which they are due, which an index knows."""
    run: Callable[[int], int]
    """Works on at most so many rows, and returns how many it finished."""

    @property
    def is_due(self) -> bool:
        """Whether there is any."""
        # Not `exists`: without an order, a database that expects many rows reads the
        # table until it meets one, which is all of it where there is none.
        first = self.due().order_by(self.moment).values_list("pk", flat=True)[:1]
        return bool(first)


def _replay(delivery: WebhookDelivery) -> bool:
    return replay_delivery(delivery) is not Verdict.STORED


def _match(delivery: WebhookDelivery) -> bool:
    return replay_delivery(delivery) is not Verdict.HELD


def _resume(operation: Operation) -> bool:
    resume_operation(operation)
    return True


def _trace(refund: Refund) -> bool:
    sync_refund(refund)
    return True


LOOPS: tuple[Loop, ...] = (
    Loop(
        name="deliveries",
        due=ledger.due_deliveries,
        moment="retry_at",
        postponed=ledger.postponed_delivery,
        work=_replay,
        accounts=("provider",),
        born="received_at",
    ),
    Loop(
        name="strays",
        due=ledger.due_strays,
        moment="rematch_at",
        postponed=ledger.postponed_stray,
        work=_match,
        accounts=("provider",),
        born="received_at",
    ),
    Loop(
        name="payments",
        due=ledger.due_payments,
        moment="sync_at",
        postponed=ledger.postponed_sync,
        work=sync_claimed,
        accounts=("provider",),
    ),
    Loop(
        name="operations",
        due=ledger.due_operations,
        moment="retry_at",
        postponed=ledger.postponed_operation,
        work=_resume,
        accounts=("payment__provider", "token__provider", "plan__provider"),
    ),
    Loop(
        name="refunds",
        due=ledger.due_refunds,
        moment="sync_at",
        postponed=ledger.postponed_sync,
        work=_trace,
    ),
)
"""In the order in which they make each other unnecessary."""

CHORES: tuple[Chore, ...] = (
    Chore(
        name="expiring",
        due=expiring_tokens,
        moment="expires_on",
        run=tell_of_expiring_tokens,
    ),
    Chore(name="notices", due=ledger.due_notices, moment="due_at", run=deliver_notices),
    Chore(
        name="endpoints",
        due=due_endpoint_deliveries,
        moment="due_at",
        run=deliver_endpoints,
    ),
    Chore(
        name="answers",
        due=expired_keys,
        moment="expires_at",
        run=forget_expired_requests,
    ),
)


# What was done --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run of `reconcile` did; with ``dry_run``, what it would do.

    ``loops`` has the same for every kind of work by its name. ``errors`` counts rows
    that raised, ``problems`` spells the first of them out. ``paused`` are accounts
    that are left alone because they did not answer.
    """

    deliveries: int = 0
    payments: int = 0
    operations: int = 0
    refunds: int = 0
    notices: int = 0
    errors: int = 0
    loops: Mapping[str, int] = field(default_factory=dict, compare=False)
    problems: Sequence[str] = field(default=(), compare=False)
    paused: Sequence[str] = field(default=(), compare=False)
    is_complete: bool = True
    """False: the budget was used up, or an account is paused, before all was done."""


def reconcile(
    providers: Sequence[str] | None = None,
    older_than: timedelta | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    *,
    budget: timedelta | None = None,
    progress: Progress | None = None,
) -> Report:
    """Apply stored messages, ask about open payments, carry on what was interrupted.

    ``providers`` are aliases (None: all), ``older_than`` leaves out younger rows,
    ``limit`` bounds each kind of row (None: all that are due now), ``budget`` is the
    time after which no further row is begun. Never starts a payment or a refund. Safe
    to run many times at once: every row is taken before it is worked on. At most
    ``MULTIPAY["CONCURRENCY"]`` rows of an account are worked on at once, each in a
    thread with its own connection to the database.

    `RuntimeError` inside a transaction.
    """
    refuse_open_transaction("reconcile")
    run = _Run(providers, older_than, limit, budget, progress)
    if dry_run:
        return run.report(
            {loop.name: sum(run.wanted[loop.name].values()) for loop in LOOPS}
            | {chore.name: _bounded(chore.due(), limit).count() for chore in CHORES}
        )
    run.work()
    return run.report(run.done)


def _bounded(rows: QuerySet[Any], limit: int | None) -> QuerySet[Any]:
    return rows if limit is None else rows[:limit]


# How it is done -------------------------------------------------------------------

_CHUNK = 32
"""Rows taken at once: what one account's threads work off well within a lease."""

_AHEAD = 8
"""With fewer rows left more are taken, so that no thread has to wait for them."""

_PAUSE = 1
"""Seconds between two looks at the notices while threads are at work."""


class _Queue:
    """The due rows of one loop and one account, for all threads of the account.

    Gives at most as many as were due at the start, so that a run comes to an end.
    """

    def __init__(
        self,
        loop: Loop,
        rows: QuerySet[Any],
        count: int,
        answers: _Answers,
        *,
        ahead: int,
    ) -> None:
        self.loop = loop
        self.answers = answers
        self._ahead = ahead
        self._candidates = rows.order_by(loop.moment, "pk")
        self._left = count
        self._taken: deque[Any] = deque()
        self._turn = threading.Lock()

    def next(self) -> Any:
        """Return a row that is ours, or None when there is no more."""
        row = None
        # In this order: who takes the last ones puts them there before none are left.
        while row is None and (self._left or self._taken):
            with contextlib.suppress(IndexError):
                row = self._taken.popleft()
            if row is None:
                with self._turn:
                    if self._left and not self._taken:
                        self._take()
            # Of those who have a row, one takes more, and the others get on.
            elif self._is_low and self._turn.acquire(blocking=False):
                try:
                    if self._is_low:
                        self._take()
                except Exception:
                    # The row in hand can be worked on; who needs the next one raises.
                    logger.exception("no more %s could be taken", self.loop.name)
                finally:
                    self._turn.release()
        return row

    @property
    def _is_low(self) -> bool:
        return self._left > 0 and len(self._taken) < self._ahead

    def _take(self) -> None:
        due = self.loop.due()
        keys = claims.take(
            due,
            self._candidates,
            min(self._left, _CHUNK - len(self._taken)),
            self.loop.postponed(),
        )
        self._taken.extend(claims.read(due.model, keys))
        self._left = self._left - len(keys) if keys else 0


class _Answers:
    """What the threads of an account were told and nobody has applied yet.

    Whoever brings an answer applies it, unless somebody is at it, who goes on until
    there are none. So the busier they are, the more go into one transaction.
    """

    def __init__(self, apply: Callable[[Sequence[Answer]], Callable[[], None]]) -> None:
        self._apply = apply
        self._waiting: deque[Answer] = deque()
        self._turn = threading.Lock()

    def add(self, answer: Answer) -> None:
        """Apply ``answer``, or leave it to who applies others.

        What is left to be done then keeps nobody else from applying.
        """
        self._waiting.append(answer)
        while self._waiting and self._turn.acquire(
            # The more wait, the longer until the last of them is written down.
            blocking=len(self._waiting) >= _CHUNK
        ):
            try:
                count = min(len(self._waiting), _CHUNK)
                finish = self._apply([self._waiting.popleft() for _ in range(count)])
            finally:
                self._turn.release()
            finish()


class _Run:
    """One run: what it wants, what it has done, when it must stop."""

    def __init__(
        self,
        providers: Sequence[str] | None,
        older_than: timedelta | None,
        limit: int | None,
        budget: timedelta | None,
        progress: Progress | None,
    ) -> None:
        self.limit = limit
        self.progress = progress
        self.done: Counter[str] = Counter()
        self.errors = 0
        self.problems: list[str] = []
        self.paused: set[str] = set()
        self._lock = threading.Lock()
        self._worked = 0
        self._is_alone = False
        self._is_cut = False
        self._ends = (
            None if budget is None else timedelta(seconds=time.monotonic()) + budget
        )
        self._born_before = older_than and timezone.now() - older_than
        self._aliases = [
            alias for alias in registry if providers is None or alias in providers
        ]
        self.wanted = {loop.name: self._count(loop) for loop in LOOPS}

    # What is wanted

    def _rows(self, loop: Loop) -> QuerySet[Any]:
        """Return what is due, with the alias as ``account_alias``."""
        rows: QuerySet[Any] = loop.due().annotate(
            account_alias=Coalesce(*loop.accounts)
            if len(loop.accounts) > 1
            else F(*loop.accounts)
        )
        if self._born_before:
            rows = rows.filter(**{f"{loop.born}__lte": self._born_before})
        return rows

    def _count(self, loop: Loop) -> dict[str, int]:
        """Return how many rows of each account are wanted: one query."""
        if not self._aliases:
            return {}
        counts = dict(
            self._rows(loop)
            .filter(account_alias__in=self._aliases)
            .order_by()
            .values_list("account_alias")
            .annotate(count=Count("pk"))
        )
        if self.limit is not None:
            # Each account its part, so that a backlog of one does not stop the others.
            left = self.limit
            for waiting, alias in enumerate(
                sorted(counts, key=lambda one: counts[one])
            ):
                share = -(-left // (len(counts) - waiting))
                counts[alias] = min(counts[alias], share)
                left -= counts[alias]
        return counts

    @property
    def _total(self) -> int:
        return sum(sum(counts.values()) for counts in self.wanted.values())

    def _must_stop(self) -> bool:
        now = timedelta(seconds=time.monotonic())
        if self._ends is not None and now >= self._ends:
            self._is_cut = True
        return self._is_cut

    # The work

    def work(self) -> None:
        """Work on every wanted row, then do the chores."""
        # In a test's transaction other threads would not see the rows.
        is_hidden = connection.in_atomic_block
        self._is_alone = is_hidden or self._total <= 1 or conf.concurrency == 1
        queues = {
            alias: [
                _Queue(
                    loop,
                    self._rows(loop).filter(account_alias=alias),
                    self.wanted[loop.name][alias],
                    _Answers(partial(self._apply, loop)),
                    ahead=0 if self._is_alone else _AHEAD,
                )
                for loop in LOOPS
                if self.wanted[loop.name].get(alias)
            ]
            for alias in self._aliases
        }
        if self._is_alone:
            for loop in LOOPS:
                for alias, waiting in queues.items():
                    for queue in waiting:
                        if queue.loop is loop:
                            self._drain(alias, queue)
        else:
            self._work_in_threads(queues)
        for chore in CHORES:
            self._do(chore)
        self._tell()
        self._write_health(queues)

    def _write_health(self, queues: Mapping[str, Sequence[_Queue]]) -> None:
        """Write down how the accounts are that were asked: this process knows best."""
        for alias, waiting in queues.items():
            health = registry[alias].health if waiting else Health()
            if health != Health():
                record_health(alias, health)

    def _work_in_threads(self, queues: Mapping[str, Sequence[_Queue]]) -> None:
        crew = [
            (alias, waiting)
            for alias, waiting in queues.items()
            for _ in range(
                min(
                    conf.concurrency,
                    sum(self.wanted[queue.loop.name][alias] for queue in waiting),
                )
            )
        ]
        with ThreadPoolExecutor(len(crew), "multipay-reconcile") as pool:
            try:
                at_work = {pool.submit(self._serve, *member) for member in crew}
                while at_work:
                    finished, at_work = wait(at_work, timeout=_PAUSE)
                    for member in finished:
                        member.result()
                    if at_work:
                        for chore in CHORES:
                            self._do(chore)
                    self._tell()
            finally:
                # Something went wrong here: nobody begins another row.
                self._is_cut = self._is_cut or bool(at_work)

    def _serve(self, alias: str, queues: Sequence[_Queue]) -> None:
        """Work on rows of one account until there are none; in a thread of its own."""
        try:
            for queue in queues:
                self._drain(alias, queue)
        finally:
            connections.close_all()

    def _drain(self, alias: str, queue: _Queue) -> None:
        while not self._must_stop():
            if self._is_paused(alias):
                self.paused.add(alias)
                return
            row = queue.next()
            if row is None:
                return
            outcome = self._tried(queue.loop, row, partial(queue.loop.work, row))
            if isinstance(outcome, Answer):
                queue.answers.add(outcome)
            else:
                self._count_one(queue.loop, is_done=outcome)

    def _count_one(self, loop: Loop, *, is_done: bool) -> None:
        with self._lock:
            self._worked += 1
            self.done[loop.name] += is_done
        if self._is_alone:
            self._tell()

    def _apply(self, loop: Loop, answers: Sequence[Answer]) -> Callable[[], None]:
        """Apply ``answers`` at once; return what is left to do."""
        applied: Mapping[int, Payment] = {}
        notices: Sequence[Notice] = ()
        try:
            if answers:
                applied, notices = apply_answers(answers)
        except Exception as error:  # noqa: BLE001  (each is tried by itself)
            # Which of them is to blame, and what for, shows when each is alone.
            problem = type(error).__name__
            logger.warning("%s answers are applied singly: %s", len(answers), problem)
        return partial(self._finish, loop, answers, applied, notices)

    def _finish(
        self,
        loop: Loop,
        answers: Sequence[Answer],
        applied: Mapping[int, Payment],
        notices: Sequence[Notice],
    ) -> None:
        """Tell the shop, and apply one by one what could not be applied at once."""
        self._tell_shop(notices)
        for answer in answers:
            payment = applied.get(answer.payment.pk)
            rest = (
                partial(apply_answer, answer)
                if payment is None
                else partial(end_if_abandoned, payment)
            )
            is_done = bool(self._tried(loop, answer.payment, rest))
            self._count_one(loop, is_done=is_done)

    def _tell_shop(self, notices: Sequence[Notice]) -> None:
        # By whoever wrote them, a chunk at a time: all would outlast their lease.
        try:
            told = tell(notices)
        except Exception as error:
            # They fall due again, as everything that was taken.
            self._note("notices", None, type(error).__name__)
            logger.exception("notices failed")
        else:
            with self._lock:
                self.done["notices"] += told

    def _is_paused(self, alias: str) -> bool:
        try:
            return registry[alias].is_paused
        except ProviderConfigurationError:
            return False  # Each row says so.

    def _tried(
        self, loop: Loop, row: Any, work: Callable[[], bool | Answer]
    ) -> bool | Answer:
        """Work on ``row``; whatever it raises must not stop the others."""
        try:
            return work()
        except MultipayError as error:
            self._note(loop.name, row, str(error))
            logger.warning("%s %s: %s", loop.name, row.pk, error)
        except Exception as error:
            self._note(loop.name, row, type(error).__name__)
            logger.exception("%s %s failed", loop.name, row.pk)
        return False

    def _do(self, chore: Chore) -> None:
        try:
            while not self._must_stop() and chore.is_due:
                left = _CHUNK
                if self.limit is not None:
                    left = min(left, self.limit - self.done[chore.name])
                if left <= 0:
                    break
                self.done[chore.name] += chore.run(left)
        except Exception as error:
            self._note(chore.name, None, type(error).__name__)
            logger.exception("%s failed", chore.name)

    def _note(self, name: str, row: Any, problem: str) -> None:
        with self._lock:
            self.errors += 1
            if len(self.problems) < MOST_PROBLEMS:
                which = "" if row is None else f" {getattr(row, 'uuid', row.pk)}"
                self.problems.append(f"{name}{which}: {problem}")

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self._worked, self._total)

    def report(self, counts: Mapping[str, int]) -> Report:
        """Return what was done, or what would be."""
        parts: tuple[Loop | Chore, ...] = (*LOOPS, *CHORES)
        loops = {part.name: counts.get(part.name, 0) for part in parts}
        known = ("deliveries", "payments", "operations", "refunds", "notices")
        return Report(
            **{name: loops[name] for name in known},
            errors=self.errors,
            loops=loops,
            problems=tuple(self.problems),
            paused=tuple(sorted(self.paused)),
            is_complete=not (self._is_cut or self.paused),
        )
