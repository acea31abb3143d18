"""An editor's way in a real browser, on a whole copy of the site: review, then order a run and watch it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.sites import Site

HEADER = "dynasty,super_power,story_type,story\n"
MARK = "编辑之路"
ROWS = [
    f'五代,流星火雨,艰难,"{MARK}甲：城门在雨里。\n\n他笑了。"',
    f"五代,流星火雨,艰难,{MARK}乙：太短。",
    f"五代,流星火雨,艰难,{MARK}丙：主角叫李四。",
]


@pytest.fixture(scope="module")
def stories(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Three stories that wait for a decision; 丙 is the newest."""
    file: Path = tmp_path_factory.mktemp("csv") / "a.csv"
    file.write_text(HEADER + "\n".join(ROWS), encoding="utf-8")
    done = site.manage("import_stories", str(file), "--json")
    assert done.json == {"rows": 3}, done.stderr


def log_in(page: Page, site: Site, name: str = "editor") -> Page:
    page.goto(f"{site.url}/admin/")
    page.get_by_label("用户名").fill(name)
    page.get_by_label("密码").fill(name)
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_role("heading", name="今天的工作")).to_be_visible()
    return page


def exported(site: Site, tmp_path: Path, verdict: str) -> str:
    file = tmp_path / f"{verdict}.csv"
    assert site.manage("export_stories", str(file), "--verdict", verdict).rc == 0
    return file.read_text(encoding="utf-8")


def test_an_editor_filters_reads_edits_approves_and_rejects(
    page: Page, site: Site, stories: None, tmp_path: Path
) -> None:
    log_in(page, site)
    page.goto(f"{site.url}/admin/stories/story/")
    page.locator("#changelist-filter").get_by_role("link", name="待审").click()
    page.locator("#searchbar").fill(MARK)
    page.get_by_role("button", name="搜索").click()
    expect(page.locator(".card")).to_have_count(3)

    first = page.locator(".card").nth(2)
    expect(first.get_by_text("他笑了。")).to_be_hidden()
    first.get_by_text("还有 1 段").click()
    expect(first.get_by_text("他笑了。")).to_be_visible()

    page.locator(".card-title").first.click()
    expect(page.locator(".review-text .story-text p")).to_have_text([f"{MARK}丙：主角叫李四。"])
    page.get_by_text("编辑正文").click()
    page.get_by_label("正文", exact=True).fill(f"{MARK}丙：主角叫李思。")
    page.get_by_label("为什么改").fill("名字")
    page.get_by_role("button", name="保存编辑", exact=True).click()
    expect(page.locator(".original p")).to_have_text([f"{MARK}丙：主角叫李四。"])
    page.get_by_role("button", name="采纳").click()

    expect(page.locator(".messagelist")).to_contain_text("已采纳：五代 · 流星火雨 · 艰难")
    expect(page.locator(".review-text .story-text p")).to_have_text([f"{MARK}乙：太短。"])
    page.get_by_label("理由").fill("不到三百字")
    page.get_by_role("button", name="拒绝").click()

    expect(page.locator(".review-text .story-text p").first).to_have_text(f"{MARK}甲：城门在雨里。")
    page.locator(".messagelist a").click()
    expect(page.locator(".history")).to_contain_text("不到三百字")
    page.get_by_role("button", name="撤销上一个决定").click()
    expect(page.locator(".review-text .badges")).to_contain_text("待审")

    assert f'"{MARK}丙：主角叫李思。"' in exported(site, tmp_path, "approved")
    assert f"{MARK}乙" in exported(site, tmp_path, "unreviewed")
    assert MARK not in exported(site, tmp_path, "rejected")


def test_an_editor_orders_a_run_and_watches_it_end(page: Page, site: Site) -> None:
    log_in(page, site)
    page.get_by_role("link", name="下一个批次").click()
    page.get_by_label("隋", exact=True).check()
    page.get_by_label("别的超能力").fill("写毛笔字")
    page.get_by_label("辛苦", exact=True).check()
    page.get_by_label("每个配方写几篇").fill("4")
    page.get_by_role("button", name="先估价").click()
    expect(page.locator(".quote")).to_contain_text("1 个配方 × 4 篇 = 4 篇")
    page.get_by_role("button", name="就这样，开始写").click()
    expect(page.locator("#progress .lead")).to_have_text("4 / 4", timeout=60_000)
    expect(page.locator("#progress .badge").first).to_have_text("已完成")
    expect(page.locator("#progress")).not_to_have_attribute("hx-get", re.compile("."))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_no_page_is_wider_than_its_window(
    new_page: Callable[..., Any], site: Site, stories: None, width: int, dark: bool
) -> None:
    page = log_in(new_page(width=width, dark=dark), site)
    for path in ("", "stories/story/", "stories/story/next/", "stories/run/add/", "stories/story/import/"):
        page.goto(f"{site.url}/admin/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
