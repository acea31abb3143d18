"""Pages of stories: those that everyone may read, and those that a reader had written."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from stories.forms import LibraryForm, known_ingredients
from stories.library import pages
from stories.models import Story
from stories.readers import identity
from stories.views.common import reader_of


@require_safe
def library(request: HttpRequest) -> HttpResponse:
    form = LibraryForm(request.GET)
    search = form.search
    page = pages.read_page(
        Story.objects.library().having(search.ingredients).mentioning(search.words),
        after=request.GET.get("after", ""),
        order=search.order,
    )
    context = {"page": page, "search": search, "orders": pages.Order.choices, "known": known_ingredients()}
    return render(request, "stories/library.html", context)


@require_safe
@never_cache
def mine(request: HttpRequest) -> HttpResponse:
    page = pages.read_page(identity.stories_of(reader_of(request)), after=request.GET.get("after", ""))
    return render(request, "stories/mine.html", {"page": page})
