"""The forms of the story pages: a decision as one form, a file as another."""

from typing import Any, Self

from django import forms
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _

from stories import reviewing
from stories.models import Story

APPROVE, REJECT, RESTORE, EDIT, UNDO = "approve", "reject", "restore", "edit", "undo"
ACTIONS = [
    *((APPROVE, _("已采纳")), (REJECT, _("已拒绝")), (RESTORE, _("已驳回举报"))),
    *((EDIT, _("已保存编辑")), (UNDO, _("已撤销"))),
]


class DecisionForm(forms.Form):
    """`seen` is the last review the editor's page knew of: nobody decides over another's head unawares."""

    action = forms.ChoiceField(choices=ACTIONS)
    seen = forms.CharField(required=False)
    reason = forms.CharField(
        label=_("理由"), required=False, max_length=reviewing.MAX_REASON, widget=forms.TextInput
    )
    text = forms.CharField(label=_("正文"), required=False, strip=False, widget=forms.Textarea)

    story: Story

    @classmethod
    def about(cls, story: Story, data: Any = None) -> Self:
        form = cls(data or None, initial={"text": story.final_text})
        form.story = story
        return form

    def clean_seen(self) -> str:
        seen: str = self.cleaned_data["seen"]
        if seen != last_review(self.story):
            raise forms.ValidationError(
                _("您打开这一页之后，别人审过或举报过这个故事；请看过下面的记录再决定。")
            )
        return seen

    def clean_text(self) -> str:
        """A browser sends every line break as CRLF; a text that only differs in that was not changed."""
        text = self.cleaned_data["text"].replace("\r\n", "\n")
        current = self.story.final_text
        return current if text == current.replace("\r\n", "\n").replace("\r", "\n") else text

    @property
    def is_verdict(self) -> bool:
        return self.cleaned_data["action"] in (APPROVE, REJECT, RESTORE)

    @property
    def done(self) -> str:
        return str(dict(ACTIONS)[self.cleaned_data["action"]])

    def decide(self, *, by: User) -> None:
        """Hands the decision to the domain. Raises `StoryError`."""
        action, reason = self.cleaned_data["action"], self.cleaned_data["reason"]
        if action == APPROVE:
            reviewing.approve(self.story, by=by, reason=reason)
        elif action == REJECT:
            reviewing.reject(self.story, by=by, reason=reason)
        elif action == RESTORE:
            reviewing.restore(self.story, by=by, reason=reason)
        elif action == EDIT:
            reviewing.edit(self.story, by=by, text=self.cleaned_data["text"], reason=reason)
        else:
            reviewing.undo(self.story, by=by)


class ImportForm(forms.Form):
    file = forms.FileField(
        label=_("CSV 文件"),
        help_text=_("列：dynasty,super_power,story_type,story；UTF-8；有一处不对就整个不收。"),
    )
    approve = forms.BooleanField(label=_("同时以我的名义采纳"), required=False)


def last_review(story: Story) -> str:
    """A mark of all that was decided and reported so far: whoever decides has seen both."""
    review = story.reviews.order_by("-pk").values_list("pk", flat=True).first()
    report = story.reactions.reports().order_by("-pk").values_list("pk", flat=True).first()
    return f"{review or ''}" + (f"+{report}" if report else "")
