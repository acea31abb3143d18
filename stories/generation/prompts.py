"""Turns a combo into what a model is asked: pure rendering, by the model's prompt style.

Each ingredient replaces its placeholder in the template once, so that braces typed by a reader are never read as
placeholders. Temperatures and lengths are those of docs/contracts.md, "How a model is asked".
"""

import re

from llm.questions import Ask
from sentences import sentence as _
from stories.errors import UnknownModel
from stories.models import LanguageModel, PromptStyle, Template
from stories.values.combos import Combo
from stories.values.texts import MAX_LENGTH

COMPLETION_SEPARATOR = " ->"
CONTINUE = "接着写"
TEMPLATE_TEMPERATURE, TEMPLATE_MAX_TOKENS = 0.5, 2048
TUNED_TEMPERATURE, TUNED_MAX_TOKENS = 0.7, 2000
CHARACTERS = 8
"""Chinese characters in one token, at most: longer tokens are rare in every vocabulary we know."""
PLACEHOLDER = re.compile(r"\{(dynasty|super_power|story_type)\}")


def render(wording: str, combo: Combo) -> str:
    """The wording with the combo's ingredients in place of `{dynasty}`, `{super_power}`, `{story_type}`."""
    return PLACEHOLDER.sub(lambda found: str(getattr(combo, found[1])), wording)


def combo_prompt(combo: Combo) -> str:
    """The short prompt of a tuned model: `唐,隐形,轻松`."""
    return str(combo)


def current_template() -> Template:
    """The newest version of the newest template. Raises `UnknownModel` on a site that was never prepared."""
    template = Template.objects.order_by("-created_at", "-pk").first()
    if template is None:
        raise UnknownModel(_("还没有提示词模板：请先运行 prepare_site。"))
    return template


def ask_for(
    model: LanguageModel,
    combo: Combo,
    *,
    template: Template | None,
    text_so_far: str = "",
    temperature: float | None = None,
) -> Ask:
    """What to ask `model` for a story of `combo`, or for the rest of `text_so_far`.

    `template` is needed for prompt style "template" only. `temperature` None: the style's own.
    """
    if model.prompt_style == PromptStyle.TEMPLATE:
        template = template or current_template()
        system, user = render(template.system, combo), render(template.user, combo)
        usual, max_tokens = TEMPLATE_TEMPERATURE, TEMPLATE_MAX_TOKENS
    else:
        system, user = model.system_message, combo_prompt(combo)
        usual, max_tokens = TUNED_TEMPERATURE, TUNED_MAX_TOKENS
    completion = model.prompt_style == PromptStyle.COMPLETION
    dialect = model.dialect
    return Ask(
        model=model.name,
        messages=() if completion else _messages(system, user, text_so_far),
        prompt=_completion_prompt(user, text_so_far) if completion else "",
        stop=model.stop,
        temperature=usual if temperature is None else temperature,
        max_tokens=dialect.room(max_tokens),
        dialect=dialect,
        opens_inside=model.opens_inside,
        max_characters=max(0, min(max_tokens * CHARACTERS, MAX_LENGTH - len(text_so_far))),
    )


def _messages(system: str, user: str, text_so_far: str) -> tuple[dict[str, str], ...]:
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": user})
    if text_so_far:
        messages.append({"role": "assistant", "content": text_so_far})
        messages.append({"role": "user", "content": CONTINUE})
    return tuple(messages)


def _completion_prompt(user: str, text_so_far: str) -> str:
    return f"{user}{COMPLETION_SEPARATOR}" + (f" {text_so_far}" if text_so_far else "")
