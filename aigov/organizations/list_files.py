"""What the admin's lists have in common as files: the addresses behind the buttons beneath each of them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.formats import number_format
from django.utils.translation import gettext

from aigov.downloads import download
from aigov.organizations import exports
from aigov.organizations.lists import list_table
from aigov.organizations.models import User

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    Page = ModelAdmin[Any]
else:
    Page = object


class ListFiles(Page):
    """A list of the admin that can be had as a file; a part of `TenantAdmin`."""

    #: `TenantAdmin` has it.
    form_page: Callable[..., HttpResponse]

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        export = path("export/<str:file_format>/", self.admin_site.admin_view(self.export), name=name)
        return [export, *super().get_urls()]

    def list_address(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def export(self, request: HttpRequest, file_format: str) -> HttpResponseBase:
        """What the list shows, with the filters and the order of the address, as a file.

        A long one is made in the background, once its reader says so.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        if file_format not in exports.FORMATS:
            raise Http404
        try:
            table = list_table(self, request)
        except IncorrectLookupParameters:
            return redirect(f"{self.list_address()}?{ERROR_FLAG}=1")
        if table.count <= exports.DIRECT_ROWS_MAX:
            return download(request, exports.chunks(table, file_format), filename=table.filename(file_format))
        return self._ask_for_export(request, file_format, table.count)

    def _ask_for_export(self, request: HttpRequest, file_format: str, rows: int) -> HttpResponse:
        def act(_given: Mapping[str, Any]) -> str:
            exports.start_export(
                user=cast(User, request.user),
                list_name=self.opts.label_lower,
                query=request.GET.urlencode(),
                file_format=file_format,
                rows_total=rows,
            )
            return gettext("Your file is being made.")

        note = gettext("It has %(count)s rows, so the file is made in the background. You can go on working.")
        return self.form_page(
            request,
            forms.Form,
            title=gettext("This list as a file"),
            note=note % {"count": number_format(rows, use_l10n=True, force_grouping=True)},
            button=gettext("Make the file"),
            act=act,
            done=reverse("exports"),
        )
