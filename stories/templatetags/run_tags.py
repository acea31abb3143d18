"""How long something takes, in words."""

from django import template

from stories.runs.progress import in_words

register = template.Library()
register.filter("duration", in_words)
