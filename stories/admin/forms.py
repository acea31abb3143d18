"""The forms of the story pages: a decision as one form, a file as another."""

from typing import Any, Self

from django import forms
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _

from stories.errors import BadFile
from stories.library.csv_files import check_size
from stories.models import Story
from stories.review import decisions

APPROVE, REJECT, RESTORE, EDIT, UNDO = "approve", "reject", "restore", "edit", "undo"
PUBLISHES = {APPROVE: decisions.approve, RESTORE: decisions.restore}
ACTIONS = [
    *((APPROVE, _("已采纳")), (REJECT, _("已拒绝")), (RESTORE, _("已驳回举报"))),
    *((EDIT, _("已保存编辑")), (UNDO, _("已撤销"))),
]
DONE_WITH_EDIT = {APPROVE: _("已保存编辑并采纳"), RESTORE: _("已保存编辑并恢复")}


# Any: a lazy translation or a text, as Django's fields take them.
def _reason(label: Any, **attrs: str) -> forms.CharField:
    widget = forms.TextInput(attrs)
    return forms.CharField(label=label, required=False, max_length=decisions.MAX_REASON, widget=widget)


class DecisionForm(forms.Form):
    """One decision on what the editor's page shows: the text in its field is the text that is decided on.

    `seen` is the last review the page knew of, `shown` the mark of the text it began with: a story that
    changed since is not decided on. An edit that was not saved goes with a decision that publishes the story; before
    any other the editor is asked, and says by `drop` that it may go. A caller without a page sends no `text`.
    """

    action = forms.ChoiceField(choices=ACTIONS)
    seen = forms.CharField(required=False)
    shown = forms.CharField(required=False)
    reason = _reason(_("理由"))
    text = forms.CharField(label=_("正文"), required=False, strip=False, widget=forms.Textarea)
    edit_reason = _reason(_("为什么改"))
    drop = forms.BooleanField(label=_("不要没保存的编辑"), required=False)

    story: Story
    asks = False

    @classmethod
    # Any: a QueryDict, or another mapping of a form's input.
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

    def clean_shown(self) -> str:
        shown: str = self.cleaned_data["shown"]
        if shown and shown != self.story.text_mark:
            raise forms.ValidationError(_("您打开这一页之后，正文变了；请看过现在的正文再决定。"))
        return shown

    def clean_text(self) -> str:
        return self._typed()

    # Any: a form's values have the types of its fields.
    def clean(self) -> dict[str, Any]:
        # Any: a form's values have the types of its fields.
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        publishes = cleaned.get("action") in (*PUBLISHES, EDIT)
        if self.unsaved and not publishes and not cleaned.get("drop"):
            self.asks = True
            self.add_error(
                None,
                _("正文里有没保存的编辑：先点「保存编辑」，或勾选「不要没保存的编辑」，再按一次。"),
            )
        self.has_edit = self.unsaved
        return cleaned

    def _typed(self) -> str:
        """What stands in the text's field. A browser sends every line break as CRLF: that alone is no change."""
        typed: str = self.data.get("text", self.story.final_text).replace("\r\n", "\n")
        current = self.story.final_text
        return current if typed == current.replace("\r\n", "\n").replace("\r", "\n") else typed

    @property
    def unsaved(self) -> bool:
        """Whether the text that was sent differs from the story's, as it is now."""
        return self.is_bound and self._typed() != self.story.final_text

    @property
    def is_verdict(self) -> bool:
        return self.cleaned_data["action"] in (APPROVE, REJECT, RESTORE)

    @property
    def done(self) -> str:
        action: str = self.cleaned_data["action"]
        return str(
            DONE_WITH_EDIT.get(action) if self.has_edit and action in PUBLISHES else dict(ACTIONS)[action]
        )

    def decide(self, *, by: User) -> None:
        """Hands the decision to the domain. Raises `StoryError`; then the story is to be read anew."""
        said = self.cleaned_data
        action, reason = said["action"], said["reason"]
        an_edit = {"text": said["text"], "reason": said["edit_reason"]}
        if action in PUBLISHES and self.has_edit:
            decisions.edit_and(PUBLISHES[action], self.story, by=by, reason=reason, an_edit=an_edit)
        elif action in PUBLISHES:
            PUBLISHES[action](self.story, by=by, reason=reason)
        elif action == REJECT:
            decisions.reject(self.story, by=by, reason=reason)
        elif action == EDIT:
            decisions.edit(self.story, by=by, text=said["text"], reason=said["edit_reason"] or reason)
        else:
            decisions.undo(self.story, by=by)


class ImportForm(forms.Form):
    """What is too large is refused before it is stored; everything else of the file is read by `csv_files`."""

    file = forms.FileField(
        label=_("CSV 文件"),
        help_text=_("列：dynasty,super_power,story_type,story；UTF-8；有一处不对就整个不收。"),
    )
    approve = forms.BooleanField(label=_("同时以我的名义采纳"), required=False)

    # Any: a form's values have the types of its fields.
    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        try:
            check_size(file.size)
        except BadFile as error:
            raise forms.ValidationError(str(error)) from error
        return file


def last_review(story: Story) -> str:
    """Names the last review and the last report: a decision holds only if its page showed both."""
    review = story.reviews.order_by("-pk").values_list("pk", flat=True).first()
    report = story.reactions.reports().order_by("-pk").values_list("pk", flat=True).first()
    return f"{review or ''}" + (f"+{report}" if report else "")
