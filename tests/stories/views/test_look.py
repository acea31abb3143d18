"""The look: titles and paragraphs, nothing inline, and colours that can be read in every theme."""

import re

import pytest
from django.test import Client

from stories.readers.identity import COOKIE, new_key, sign_key
from stories.templatetags.story_tags import excerpt, opening, paragraphs
from tests.environment import BASE_DIR
from tests.factories import make_story


@pytest.mark.django_db
def test_no_page_has_inline_style_or_script(client: Client) -> None:
    key = new_key()
    client.cookies[COOKIE] = sign_key(key)
    story = make_story(state="writing", text="从前", reader_key=key)
    for path in ("/", "/stories/new/", "/stories/mine/", f"/stories/{story.pk}/", "/login/", "/nowhere/"):
        page = client.get(path).content.decode()
        assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", page) == [], path
        assert [
            tag for tag in re.findall(r"<script[^>]*>", page) if "src=" not in tag and "json" not in tag
        ] == []


REST = "射手岳青霜追着一道青光跑进了西湖边的断桥。"


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        ("贞观年间，有人醒来。他笑了。", "贞观年间，有人醒来", "他笑了。"),
        ("他隐形了！怪兽没看见他。", "他隐形了！怪兽没看见他", ""),
        ("“你是谁？”小姑娘问。", "“你是谁？”小姑娘问", ""),
        ("南宋的雨夜里，射手岳青霜追着一道青光跑进了西湖边的断桥。\n\n完", "南宋的雨夜里", f"{REST}完"),
        ("烟花放到一半，夜空里落下了怪兽“吞雷”。这时他来了。", "烟花放到一半，夜空里落下了怪兽“吞雷”", "这时他来了。"),
        ("甲" * 40, "甲" * 23 + "…", "甲" * 17),
        ("  \n\n", "", ""),
    ],
)  # fmt: skip
def test_a_title_is_taken_from_the_first_sentence(text: str, title: str, rest: str) -> None:
    assert (opening(text), excerpt(text)) == (title, rest)


def test_paragraphs_are_lines_without_their_indent() -> None:
    assert paragraphs("　　甲\r\n\r\n 乙 \n\n\n丙\u2028丁") == ["甲", "乙", "丙\u2028丁"]


# --- the tokens -----------------------------------------------------------------------------------------

TOKENS = (BASE_DIR / "static/css/tokens.css").read_text(encoding="utf-8")


def theme(name: str) -> dict[str, str]:
    colours = {}
    for token, light, dark in re.findall(r"(--[\w-]+): light-dark\((#\w+), (#\w+)\)", TOKENS):
        colours[token] = dark if name == "dark" else light
    colours |= dict(re.findall(r"(--seal[\w-]*|--on-seal): (#\w+);", TOKENS.partition("html[")[0]))
    if name == "sepia":
        colours |= dict(
            re.findall(r"(--[\w-]+): (#\w+);", TOKENS.partition('html[data-theme="sepia"] {\n  --')[2])
        )
        colours["--paper"] = re.search(r'html\[data-theme="sepia"\] \{\s+--paper: (#\w+)', TOKENS)[1]  # type: ignore[index]
    return colours


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark", "sepia"])
def test_every_theme_is_readable(name: str) -> None:
    colours = theme(name)
    texts = ("--ink", "--ink-quiet", "--link", "--seal-text", "--good-text", "--warn-text")
    grounds = ("--paper", "--paper-raised", "--paper-sunken")
    for ground in grounds:
        for token in texts:
            assert contrast(colours[token], colours[ground]) >= 4.5, (token, ground)
        for token in ("--rule-strong", "--focus"):
            assert contrast(colours[token], colours[ground]) >= 3, (token, ground)
    for ground in ("--seal", "--seal-pressed"):
        assert contrast(colours["--on-seal"], colours[ground]) >= 4.5
