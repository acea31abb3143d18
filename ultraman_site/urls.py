"""The site's addresses."""

from django.contrib import admin
from django.urls import include, path

handler500 = "stories.views.common.server_error"
urlpatterns = [
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("", include("stories.urls")),
]
