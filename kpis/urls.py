"""The addresses of the dashboards."""

from django.urls import URLPattern, path

from kpis.exports import focus_file

app_name = "kpis"
urlpatterns: list[URLPattern] = [
    path("export/focus.csv", focus_file, name="focus"),
]
