"""How the conversation with each provider account goes."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class AccountHealth(models.Model):
    """What was last seen of one account, by whichever process saw it."""

    provider = models.CharField(_("provider"), max_length=64, unique=True)
    is_refused = models.BooleanField(_("credentials refused"), default=False)
    """The provider does not accept our key: a person must look."""
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    failure = models.CharField(_("last failure"), max_length=64, blank=True)
    """The class of the error, without the words of any message."""
    paused_until = models.DateTimeField(_("not called before"), null=True)
    succeeded_at = models.DateTimeField(_("last answer"), null=True)
    failed_at = models.DateTimeField(_("last failure at"), null=True)
    updated_at = models.DateTimeField(_("seen"), auto_now=True)

    class Meta:
        verbose_name = _("account state")
        verbose_name_plural = _("account states")
        ordering: ClassVar[list[str]] = ["provider"]

    def __str__(self) -> str:
        return self.provider
