"""The addresses of everything."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from django.views.i18n import set_language
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from aigov.organizations.password_pages import SetPasswordPage
from aigov.web import errors, health
from budgets.api import BudgetView, MonthsView
from budgets.api_requests import CapRequestsView, CapRequestView, WithdrawCapRequestView
from kpis.api import OutcomeHookView, OutcomesView, SummaryView
from routing.api.anthropic import MessagesView
from routing.api.models import ModelsView, ModelView
from routing.api.native import CompletionsView, CompletionView
from routing.api.openai import ChatCompletionsView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("favicon.ico", RedirectView.as_view(url=static("aigov/icon.svg"))),
    path("language/", set_language, name="set_language"),
    path("api/v1/completions", CompletionsView.as_view(), name="completions"),
    path("api/v1/completions/<str:completion_id>", CompletionView.as_view(), name="completion"),
    path("api/v1/budget", BudgetView.as_view(), name="budget"),
    path("api/v1/outcomes", OutcomesView.as_view(), name="outcomes"),
    path("api/v1/outcomes/webhook/<uuid:hook_id>", OutcomeHookView.as_view(), name="outcome-hook"),
    path("api/v1/kpis/summary", SummaryView.as_view(), name="kpis-summary"),
    path("api/v1/budget/months", MonthsView.as_view(), name="budget-months"),
    path("api/v1/budget/cap-requests", CapRequestsView.as_view(), name="cap-requests"),
    path("api/v1/budget/cap-requests/<int:request_id>", CapRequestView.as_view(), name="cap-request"),
    path(
        "api/v1/budget/cap-requests/<int:request_id>/withdraw",
        WithdrawCapRequestView.as_view(),
        name="cap-request-withdraw",
    ),
    path("api/v1/settings/", include("aigov.registry.urls")),
    path("v1/chat/completions", ChatCompletionsView.as_view(), name="chat-completions"),
    path("v1/messages", MessagesView.as_view(), name="messages"),
    path("v1/models", ModelsView.as_view(), name="models"),
    path("v1/models/<str:model>", ModelView.as_view(), name="model"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("admin/providers/status/", include("providers.urls")),
    path("admin/password/<uidb64>/<token>/", SetPasswordPage.as_view(), name="set-password"),
    path("admin/exports/", include("aigov.organizations.urls")),
    path("admin/budgets/reconciliation/", include("budgets.urls")),
    path("kpis/", include("kpis.urls")),
    path("admin/", admin.site.urls),
    re_path(r"^(api|v1)/", errors.unknown_address),
]

handler400 = errors.handler400
handler403 = errors.handler403
handler404 = errors.handler404
handler500 = errors.handler500
