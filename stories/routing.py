"""The story socket's address."""

from django.urls import path

from stories.consumers import StoryConsumer

websocket_urlpatterns = [path("ws/stories/<uuid:pk>/", StoryConsumer.as_asgi())]
