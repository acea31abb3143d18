"""Signing up, which keeps what the browser's cookie wrote; logging in does the same (see `stories/apps.py`)."""

from http import HTTPStatus
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.forms import UserCreationForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from stories.readers import identity, quotas
from stories.values import addresses
from stories.views.common import reader_of

SIGN_UPS_PER_DAY = 20
"""From one address."""
BACKEND = "django.contrib.auth.backends.ModelBackend"


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
@never_cache
def sign_up(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("stories:mine")
    # Any: more than one type comes here, and each is used by what it has.
    form: Any = UserCreationForm(request.POST if request.method == "POST" else None)
    status = HTTPStatus.OK
    if request.method == "POST":
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        if form.is_valid():
            if _count_sign_up(request):
                login(request, form.save(), backend=BACKEND)
                return redirect("stories:mine")
            status = HTTPStatus.TOO_MANY_REQUESTS
            form.add_error(None, _("你所在的网络今天注册得太多了，请明天再来。"))
    return render(request, "stories/signup.html", {"form": form}, status=status)


# Any: more than one type comes here, and each is used by what it has.
def keep_stories(*, request: HttpRequest | None, user: Any, **_kwargs: object) -> None:
    """On every login: what this browser's cookie wrote is the account's from now on, and the cookie is removed."""
    key = identity.read_key(request.COOKIES.get(identity.COOKIE)) if request else ""
    if request is not None and key:
        identity.keep_stories(key, user=user)
        request.forget_reader = True  # type: ignore[attr-defined]


def _count_sign_up(request: HttpRequest) -> bool:
    address = addresses.name_address(reader_of(request).address)
    return quotas.count(f"signup:{address}", limit=SIGN_UPS_PER_DAY)
