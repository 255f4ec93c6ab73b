"""The page of one's own long exports: how far each is, and its file."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from aigov.downloads import download
from aigov.organizations import exports
from aigov.organizations.models import Export, ExportState
from aigov.organizations.tenant_admin import count, instant, person

#: How often the page loads itself anew while a file is being made.
RELOAD_S = 3
OPEN = (ExportState.WAITING, ExportState.RUNNING)


@dataclass(frozen=True, slots=True)
class Shown:
    """An export in words."""

    export: Export
    title: str
    asked: str
    progress: str
    percent: int

    @property
    def is_ready(self) -> bool:
        return self.export.state == ExportState.DONE

    @property
    def is_open(self) -> bool:
        return self.export.state in OPEN


def exports_page(request: HttpRequest) -> HttpResponse:
    """The files that the person has asked for in the last day."""
    shown = [_shown(export) for export in person(request).exports.all()]
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        **{"title": _("Your files"), "content_title": _("Your files"), "exports": shown},
        "reload_s": RELOAD_S if any(row.is_open for row in shown) else None,
    }
    return TemplateResponse(request, "admin/exports.html", context)


def export_file(request: HttpRequest, export_id: UUID) -> HttpResponseBase:
    """The file; one's own alone."""
    export = get_object_or_404(person(request).exports, pk=export_id, state=ExportState.DONE)
    return download(request, exports.content(export), filename=export.filename)


def _shown(export: Export) -> Shown:
    of = {"done": count(export.rows_done), "total": count(export.rows_total)}
    progress = _("%(done)s of %(total)s rows") % of
    percent = min(100, export.rows_done * 100 // max(export.rows_total, 1))
    return Shown(
        export=export,
        title=f"{capfirst(str(apps.get_model(export.list_name)._meta.verbose_name_plural))}, "
        f"{export.file_format.upper()}",
        asked=instant(export.created_at),
        progress=progress,
        percent=percent,
    )
