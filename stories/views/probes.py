"""What machines ask: whether this process answers, and whether the site is whole."""

from http import HTTPStatus

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from stories.operations import health


@require_GET
def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@require_GET
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    missing = health.find_missing()
    body = {"status": "unavailable" if missing else "ok", "missing": missing}
    return JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK)
