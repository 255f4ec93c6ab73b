"""The page on which people set their own password, by the link that they got."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.views import INTERNAL_RESET_SESSION_TOKEN, PasswordResetConfirmView
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import INPUT_CLASSES

from aigov.organizations.models import User
from aigov.organizations.passwords import set_password


class OwnPasswordForm(SetPasswordForm):  # type: ignore[type-arg]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = " ".join(INPUT_CLASSES)


class SetPasswordPage(PasswordResetConfirmView):
    """Django's page: it takes the token out of the address, so that no other page learns it."""

    form_class = OwnPasswordForm
    template_name = "admin/set_password.html"
    title = gettext_lazy("Set your password")

    def get_user(self, uidb64: str) -> User | None:
        user = super().get_user(uidb64)
        return user if isinstance(user, User) and user.is_active else None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        # The page's own title, above the site's.
        return {**admin.site.each_context(self.request), **super().get_context_data(**kwargs)}

    def form_valid(self, form: Any) -> HttpResponse:
        token = self.request.session[INTERNAL_RESET_SESSION_TOKEN]
        try:
            assert self.user is not None, "the form is shown for a valid link alone"
            set_password(user=self.user, token=token, password=form.cleaned_data["new_password1"])
        except ValidationError as refusal:
            form.add_error(None, refusal)
            return self.form_invalid(form)
        del self.request.session[INTERNAL_RESET_SESSION_TOKEN]
        messages.success(self.request, _("Your password is set. Please log in with it."))
        return redirect("admin:login")
