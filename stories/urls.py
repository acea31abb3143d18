"""The readers' pages."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from stories.views import accounts, library, orders, pages, probes, reactions

app_name = "stories"
urlpatterns = [
    path("", library.library, name="library"),
    path("stories/new/", orders.new, name="new"),
    path("stories/mine/", library.mine, name="mine"),
    path("stories/<uuid:pk>.txt", pages.text, name="text"),
    path("stories/<uuid:pk>/", pages.story, name="story"),
    path("stories/<uuid:pk>/stop/", orders.stop, name="stop"),
    path("stories/<uuid:pk>/continue/", orders.go_on, name="continue"),
    path("stories/<uuid:pk>/retry/", orders.retry, name="retry"),
    path("stories/<uuid:pk>/again/", orders.again, name="again"),
    path("stories/<uuid:pk>/rate/", reactions.rate, name="rate"),
    path("stories/<uuid:pk>/finish/", reactions.finish, name="finish"),
    path("stories/<uuid:pk>/report/", reactions.report, name="report"),
    path("stories/<uuid:pk>/offer/", reactions.offer, name="offer"),
    path("stories/<uuid:pk>/share/", reactions.share, name="share"),
    path("stories/<uuid:pk>/unshare/", reactions.unshare, name="unshare"),
    path("signup/", accounts.sign_up, name="signup"),
    path(
        "login/",
        LoginView.as_view(template_name="stories/login.html", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("health/live", probes.live, name="live"),
    path("health/ready", probes.ready, name="ready"),
]
