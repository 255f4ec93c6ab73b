"""Pages on the providers, below `/admin/providers/status/`."""

from django.contrib import admin
from django.urls import path

from providers.status_pages import providers_page, switch_page

urlpatterns = [
    path("", admin.site.admin_view(providers_page), name="providers-status"),
    path("<str:provider>/<path:model>/switch/", admin.site.admin_view(switch_page), name="providers-switch"),
]
