"""What the admin's pages share: rows that only the domain writes, pages of our own, errors that become messages."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core import signing
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DataError, ProgrammingError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.utils.translation import gettext as _

from stories.errors import StoryError

CONTROL = "stories.control_run"
"""The permission of whoever decides on runs, their calls and their batch orders."""
# The errors of made-up filters and keys in an address, by database and by lookup.
UNREADABLE = (ValueError, OverflowError, IndexError, ValidationError, DataError, ProgrammingError)


class ListTitle(admin.ModelAdmin):  # type: ignore[type-arg]  # no generic when it runs
    """A list is titled by its rows' name, and no address or choice ends in an error."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        # PostgreSQL refuses a NUL when the query runs, where Django no longer catches it.
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            return HttpResponseRedirect(request.path)
        title = {"title": self.opts.verbose_name_plural}
        return super().changelist_view(request, title | (extra_context or {}))

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """As Django's; unreadable filters raise its own error, and it then shows the list without them."""
        try:
            return super().get_changelist_instance(request)
        except UNREADABLE as error:
            raise IncorrectLookupParameters(error) from error

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Model | None:
        """As Django's; an empty `_to_field=` counts as absent."""
        return super().get_object(request, object_id, from_field or None)

    def response_action(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],  # Any: rows of whichever model the page is about
        *more: Any,  # Any: handed on to Django as it came
        **named: Any,  # Any: as above
    ) -> HttpResponse | None:
        """As Django's; a choice with a value that is no key changes nothing, and a message says so."""
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if not all(self._is_key(value) for value in chosen):
            messages.warning(request, _("所选的不是这里的行，什么也没有改动。"))
            return None
        return super().response_action(request, queryset, *more, **named)

    def _is_key(self, value: str) -> bool:
        try:
            self.opts.pk.clean(value, None)
        except UNREADABLE:
            return False
        return True


class ReadOnlyAdmin(ListTitle):
    """Rows that only the domain writes; `errors`: whose sentences are for the person at the page."""

    errors: ClassVar[tuple[type[Exception], ...]] = (StoryError,)
    actions: Sequence[str] | None = None
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @contextmanager
    def errors_as_messages(self, request: HttpRequest) -> Iterator[None]:
        """One of `errors` inside the block becomes a message on the next page."""
        try:
            yield
        except self.errors as error:
            messages.error(request, str(error))


class PageAdmin(ReadOnlyAdmin):
    """Rows with a page of our own in the place of Django's form, and perhaps one that orders a new row.

    Django's signatures of its two views stand here once.
    """

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        row = find_or_404(self, request, object_id)
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        return self.row_page(request, row)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        return self.order_page(request)

    # Any: a row or value of more than one model.
    def row_page(self, request: HttpRequest, row: Any, /) -> HttpResponse:
        """The page of one row."""
        raise NotImplementedError

    def order_page(self, request: HttpRequest) -> HttpResponse:
        """The page that orders a new row; without one, nobody may."""
        raise PermissionDenied


# Any: what Django's templates and admin take: values of any type.
def sign(shown: dict[str, Any]) -> str:
    """A mark of exactly what a page showed: the second press belongs to it and to nothing else."""
    words = json.dumps(shown, sort_keys=True, default=str)
    return signing.Signer(salt="admin.shown").signature(words)


def check_permission(request: HttpRequest, permission: str) -> User:
    """The person, who has that permission; everyone else gets 403."""
    if isinstance(request.user, User) and request.user.has_perm(permission):
        return request.user
    raise PermissionDenied


# Any: rows of whichever model the page is about.
def find_or_404(page: "admin.ModelAdmin[Any]", request: HttpRequest, object_id: str) -> Any:
    """The row a page is about, if this person may see it."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    found = page.get_object(request, object_id)
    if found is None:
        raise Http404(_("没有这一行。"))
    return found


# Any: handed on to Django as it came.
def page_context(page: "admin.ModelAdmin[Any]", request: HttpRequest, **more: Any) -> dict[str, Any]:
    """What every page of the admin needs, for one of ours."""
    return {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "media": page.media,
        "preserved_filters": page.get_preserved_filters(request),
        **more,
    }
