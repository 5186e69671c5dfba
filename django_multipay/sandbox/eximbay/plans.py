"""The calendar of recurring plans: charges what is due, then tells the shop."""

from collections.abc import Callable

from django_multipay.sandbox.agenda import Agenda
from django_multipay.sandbox.books import Clock
from django_multipay.sandbox.eximbay.charges import Charges
from django_multipay.sandbox.eximbay.ledger import Payment, RecurringPlan


class Plans:
    """One per ledger. `tell` sends the notice of a charge."""

    def __init__(
        self, charges: Charges, clock: Clock, tell: Callable[[Payment], None]
    ) -> None:
        self._charges = charges
        self._agenda = Agenda(clock)
        self._tell = tell

    def clear(self) -> None:
        self._agenda.clear()

    def expect(self, plan: RecurringPlan) -> None:
        """Charge the plan on its next day, and so on until it is deleted."""
        self._agenda.at(plan.due_at, lambda: self._charge(plan))

    def _charge(self, plan: RecurringPlan) -> None:
        if not plan.deleted:
            self._tell(self._charges.charge_plan(plan))
            self.expect(plan)
