"""The trainer's way in a real browser: build a dataset, order a job at its price, watch the curve, promote."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.finetuning.factories import DYNASTIES, POWERS, TYPES
from tests.sites import Site

TRAINING_SECONDS = 60_000


@pytest.fixture(scope="module")
def stocked_site(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site with thirty approved stories, imported as an editor would."""
    lines = [
        f'"{dynasty}","{power}","{kind}","{dynasty}朝的秦越来到今天，靠{power}打败了怪兽，这一仗打得{kind}。"'
        for dynasty in DYNASTIES
        for power in POWERS
        for kind in TYPES
    ]
    path: Path = tmp_path_factory.mktemp("csv") / "stories.csv"
    path.write_text(
        "\n".join(['"dynasty","super_power","story_type","story"', *lines]) + "\n", encoding="utf-8"
    )
    done = site.manage("import_stories", str(path), "--approve", "--by", "editor", "--json")
    assert done.rc == 0, done.stderr
    return site


def log_in(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/admin/login/")
    page.fill("#id_username", "trainer")
    page.fill("#id_password", "trainer")
    page.press("#id_password", "Enter")
    expect(page.locator("#user-tools")).to_contain_text("trainer")


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_from_dataset_to_promoted_model(
    stocked_site: Site, new_page: Callable[..., Any], width: int, dark: bool
) -> None:
    page = new_page(width=width, dark=dark)
    refused: list[str] = []
    page.on(
        "console", lambda message: refused.append(message.text) if "Security Policy" in message.text else None
    )
    log_in(page, stocked_site)

    page.goto(f"{stocked_site.url}/admin/finetuning/dataset/add/")
    page.get_by_label("名称").fill(f"浏览器{width}")
    press(page, "先看看有多少")
    expect(page.locator(".quote")).to_contain_text("训练")
    press(page, "就这样，冻结")
    expect(page.locator("h1")).to_have_text(f"数据集 浏览器{width}@1")

    page.get_by_role("link", name="用它训练").click()
    expect(page.get_by_label("数据集").locator("option:checked")).to_have_text(f"浏览器{width}@1")
    page.get_by_label("轮数").fill("2")
    press(page, "先估价")
    expect(page.locator(".quote .lead")).to_have_text("不花钱")
    page.get_by_role("button", name="开始训练").dblclick()
    expect(page.locator("h1")).to_contain_text("微调任务 #")

    # Nobody reloads: the page renews itself until the job has ended.
    expect(page.locator("#progress .badge").first).to_have_text("成功", timeout=TRAINING_SECONDS)
    expect(page.locator(".chart .uplot canvas")).to_have_count(2)
    expect(page.locator(".events li").first).to_be_visible()
    page.get_by_text("数字表格").click()
    cells = page.locator("[data-figures] tr").last.locator("td")
    expect(cells.nth(1)).to_have_text(re.compile(r"^\d+\.\d{4}$"))
    expect(cells.nth(2)).to_have_text(re.compile(r"^\d+\.\d{4}$"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    name = page.locator("#progress dd strong").first.inner_text()
    page.get_by_role("link", name="启用这个模型").click()
    expect(page.locator("form.sheet")).to_contain_text(name)
    press(page, "启用")
    expect(page.locator(".messagelist")).to_contain_text(name)
    page.goto(f"{stocked_site.url}/admin/finetuning/job/")
    expect(page.locator("#result_list tbody tr").first).to_contain_text(f"浏览器{width}@1")
    alike = page.locator("#result_list tbody tr", has_text=f"浏览器{width}@1")
    expect(alike).to_have_count(1)
    assert refused == []
