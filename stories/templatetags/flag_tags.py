"""How the decision page shows flags: the passages marked in the text, the figures in words."""

from itertools import pairwise
from typing import Any

from django import template
from django.utils.translation import gettext as _

from stories.models import EndReason, Flag
from stories.review.quality.passages import paragraphs

register = template.Library()


@register.filter
def marked(text: str, flags: list[Flag]) -> list[list[tuple[str, str]]]:
    """The paragraphs of `text`, each as pieces (words, what is wrong with them); "" is nothing."""
    marks = [
        (passage["start"], passage["end"], flag.get_kind_display())
        for flag in flags
        for passage in flag.evidence.get("passages", [])
    ]
    return [_cut(text, part.start, part.end, marks) for part in paragraphs(text)]


def _cut(text: str, start: int, end: int, marks: list[tuple[int, int, str]]) -> list[tuple[str, str]]:
    inside = [(max(a, start), min(b, end), label) for a, b, label in marks if a < end and b > start]
    edges = sorted({start, end, *(edge for a, b, _label in inside for edge in (a, b))})
    pieces = []
    for left, right in pairwise(edges):
        labels = dict.fromkeys(label for a, b, label in inside if a <= left and right <= b)
        pieces.append((text[left:right], "、".join(labels)))
    return pieces


@register.filter
def evidence(flag: Flag) -> str:
    """The figures of a flag in words; its passages are marked in the text, its neighbour is a link."""
    # Any: more than one type comes here, and each is used by what it has.
    found: dict[str, Any] = flag.evidence
    if flag.kind == Flag.Kind.LENGTH:
        least, most = found["range"]
        return _("%(count)s 字，应在 %(least)s 到 %(most)s 之间") % {
            "count": found["number"],
            "least": least,
            "most": most,
        }
    if flag.kind in (Flag.Kind.INGREDIENT, Flag.Kind.CAST):
        return _("没有写到：%(words)s") % {"words": "、".join(found["missing"])}
    if flag.kind == Flag.Kind.NOT_CHINESE:
        return _("汉字只占 %(share)s%%") % {"share": found["number"]}
    if flag.kind == Flag.Kind.TRUNCATED:
        return str(EndReason(found["reason"]).label)
    if flag.kind == Flag.Kind.DUPLICATE:
        return _("相似度 %(score)s") % {"score": f"{found['score']:g}"}
    return _("%(count)s 处") % {"count": len(found.get("passages", []))}
