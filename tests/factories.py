"""Plain functions that make rows with sensible defaults: `make_story(state="written")`."""

from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, User
from django.utils import timezone

from finetuning.models import Dataset, DatasetRow, Job
from stories.models import Attempt, Ingredient, LanguageModel, Review, Run, Story, Template
from stories.operations import seeding
from stories.values import combos
from stories.values.combos import Combo

number = count(1)

TEXT = (
    "长安的宵禁鼓刚刚敲过三遍，金吾卫的小校尉沈青追着一道流星跑出城门，再抬头时，眼前已是车水马龙的二十一世纪。\n\n"
    "他还没弄明白红绿灯的规矩，就发现自己的手指渐渐透明，只要屏住呼吸，整个人便像一缕烟融进空气里。"
    "就在这时，一头浑身冒着黑雾的怪兽从江底站了起来，大桥在它的脚下咯吱作响。奥特曼从天而降，却被黑雾蒙住了眼睛。\n\n"
    "沈青屏住呼吸，顺着怪兽的尾巴一路爬到它的额头，把腰间的铜铃系在它的独角上，轻轻一摇。"
    "清脆的铃声像一盏灯，奥特曼循声出拳，光线正中眉心。怪兽化作漫天星屑，落在江面上，像极了长安上元夜的花灯。"
    "“原来千年以后，”沈青笑着说，“还是有人爱看灯的。”"
)


def make_combo(dynasty: str = "唐", super_power: str = "隐形", story_type: str = "轻松") -> Combo:
    return combos.make_combo(dynasty, super_power, story_type)


def make_template(**kw: Any) -> Template:
    """A template; each call without `version` makes the next version."""
    name = kw.setdefault("name", "奥特曼故事")
    kw.setdefault("version", Template.objects.filter(name=name).count() + 1)
    kw.setdefault("system", "你是一位给少年读者写短篇故事的作家。")
    kw.setdefault(
        "user",
        "请写一个三百字左右的故事。主人公来自「{dynasty}」，穿越到现代后获得超能力「{super_power}」，"
        "在一场「{story_type}」的战斗中帮助奥特曼打败怪兽。",
    )
    return Template.objects.create(**kw)


def make_model(name: str = "", **kw: Any) -> LanguageModel:
    """A free base model at the default endpoint of the moment."""
    from django.conf import settings

    kw.setdefault("base_url", settings.LLM_ENDPOINTS["default"].base_url)
    kw.setdefault("base", name or "base-zh")
    for price in ("input_price", "output_price", "training_price"):
        kw.setdefault(price, Decimal(0))
    return LanguageModel.objects.create(name=name or f"base-zh-{next(number)}", **kw)


def make_serving_model(name: str = "", **kw: Any) -> LanguageModel:
    return make_model(name, promoted_at=timezone.now(), **kw)


def make_run(**kw: Any) -> Run:
    """A running run over one combo; its stories are made with `make_story(run=run, slot=0)`."""
    kw.setdefault("dynasties", ["唐"])
    kw.setdefault("super_powers", ["隐形"])
    kw.setdefault("story_types", ["轻松"])
    kw.setdefault("state", Run.State.RUNNING)
    kw["template"] = kw.get("template") or make_template()
    kw["language_model"] = kw.get("language_model") or make_model()
    return Run.objects.create(**kw)


def make_story(**kw: Any) -> Story:
    """A written, unreviewed story, imported unless it has a run or a reader; `combo=` sets its three ingredients."""
    combo = kw.pop("combo", None) or make_combo()
    for axis in combos.AXES:
        kw.setdefault(axis, getattr(combo, axis))
    kw.setdefault("origin", _origin(kw))
    if kw.get("run") and "slot" not in kw:
        kw["slot"] = kw["run"].stories.count()
    state = kw.setdefault("state", Story.State.WRITTEN)
    if state in (Story.State.WRITTEN, Story.State.INTERRUPTED):
        kw.setdefault("text", TEXT)
        kw.setdefault("attempt_name", f"{next(number):032x}")
        kw.setdefault("end_reason", "stop" if state == Story.State.WRITTEN else "cut")
    if state == Story.State.WRITING:
        kw.setdefault("lease_until", timezone.now() + timedelta(seconds=20))
        kw.setdefault("fence", 1)
    if state == Story.State.FAILED:
        kw.setdefault("end_reason", "refused")
        kw.setdefault("error", "模型服务拒绝了（400：bad request）。")
    kw.setdefault("length", len(kw.get("text", "")))
    if "template" not in kw:
        kw["template"] = kw["run"].template if kw.get("run") else Template.objects.first() or make_template()
    if "language_model" not in kw:
        run = kw.get("run")
        kw["language_model"] = run.language_model if run else LanguageModel.objects.first() or make_model()
    return Story.objects.create(**kw)


def _origin(kw: dict[str, Any]) -> Story.Origin:
    """Of a run, else of a reader where one is named or the story is not written yet, else imported."""
    if kw.get("run"):
        return Story.Origin.RUN
    of_a_reader = {"reader_key", "owner", "offered_at"} & set(kw)
    unwritten = kw.get("state", Story.State.WRITTEN) != Story.State.WRITTEN
    return Story.Origin.READER if of_a_reader or unwritten else Story.Origin.IMPORT


def make_offered_story(**kw: Any) -> Story:
    """A reader's story that its reader offered to the editors."""
    kw.setdefault("offered_by", f"key:{kw['reader_key']}" if kw.get("reader_key") else "key:someone")
    return make_story(offered_at=timezone.now(), **kw)


def make_approved_story(**kw: Any) -> Story:
    """A story in the library."""
    kw.setdefault("origin", _origin(kw))
    kw.setdefault("reviewed_at", timezone.now())
    kw.setdefault("visibility", Story.Visibility.LIBRARY)
    if kw["origin"] == Story.Origin.READER:
        kw.setdefault("offered_at", timezone.now())
    return make_story(verdict=Story.Verdict.APPROVED, **kw)


def make_attempt(story: Story, **kw: Any) -> Attempt:
    kw.setdefault("fence", story.fence)
    kw.setdefault("language_model", story.language_model)
    kw.setdefault("state", Attempt.State.COMPLETE)
    kw.setdefault("day", timezone.localdate())
    return Attempt.objects.create(story=story, **kw)


def make_review(story: Story, *, editor: User, **kw: Any) -> Review:
    kw.setdefault("decision", Review.Decision.APPROVED)
    kw.setdefault("text_before", story.final_text)
    kw.setdefault("text_after", story.final_text)
    kw.setdefault("verdict_before", Story.Verdict.UNREVIEWED)
    kw.setdefault("verdict_after", kw["decision"])
    return Review.objects.create(story=story, editor=editor, **kw)


def make_ingredients() -> list[Ingredient]:
    """The mission's ingredients, in its order; those a migration or another test made are kept."""
    axes = {
        "dynasty": "唐 宋 元 明 清 汉 魏 晋 南北朝",
        "super_power": "隐形 飞行 读心术 瞬间移动 不死之身 喷火",
        "story_type": "轻松 努力 艰难",
    }
    return [
        Ingredient.objects.get_or_create(axis=axis, name=name, defaults={"position": position})[0]
        for axis, names in axes.items()
        for position, name in enumerate(names.split())
    ]


def make_dataset(**kw: Any) -> Dataset:
    """A dataset's row without its files; tests that need the files build one through the domain."""
    name = kw.setdefault("name", "奥特曼")
    kw.setdefault("version", Dataset.objects.filter(name=name).count() + 1)
    stories = kw.pop("stories", [])
    kw.setdefault("training_rows", len(stories))
    kw.setdefault("validation_rows", 0)
    kw.setdefault("tokens", 300 * len(stories))
    kw.setdefault("training_file", f"datasets/{name}-{kw['version']}.jsonl")
    kw.setdefault("sha256", f"{next(number):064x}")
    dataset = Dataset.objects.create(**kw)
    for position, story in enumerate(stories):
        DatasetRow.objects.create(
            dataset=dataset,
            story=story,
            split=DatasetRow.Split.TRAINING,
            position=position,
            dynasty=story.dynasty,
            super_power=story.super_power,
            story_type=story.story_type,
            text=story.final_text,
        )
    return dataset


def make_job(**kw: Any) -> Job:
    kw["dataset"] = kw.get("dataset") or make_dataset()
    kw["language_model"] = kw.get("language_model") or make_model()
    kw.setdefault("fingerprint", f"{next(number):064x}")
    return Job.objects.create(**kw)


def make_group(name: str) -> Group:
    """The group `editors` or `trainers`, with what a prepared site lets its people do."""
    seeding.seed_groups()
    return Group.objects.get(name=name)


def make_person(username: str, *, group: str = "") -> User:
    """An account whose password is its name; a member of a group is staff."""
    person: User = get_user_model().objects.create_user(username, password=username, is_staff=bool(group))
    if group:
        person.groups.add(make_group(group))
    return person
