"""`prepare_site`: brings a database, old or empty, to where the site can start; safe to repeat."""

import io
import os
from argparse import ArgumentParser
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.core.management import call_command
from django.utils.translation import gettext as _

from stories import language_models
from stories.management.output import SiteCommand
from stories.operations import seeding
from stories.operations.atomic_files import write_file


class Command(SiteCommand):
    """Migrates, compiles the message catalogues, and lays out what a site has before its first story."""

    help = _("准备站点：建表、编译译文，写入配料、模板、用户组和模型。")

    def add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--demo-logins", action="store_true", help=_("建立演示账号 editor、trainer、reader，密码同名")
        )
        parser.add_argument("--starting", action="store_true", help=_("随后启动全部进程：清除旧的心跳"))
        parser.add_argument(
            "--alone", action="store_true", help=_("没有别的进程使用这个数据库：收回旧的租约")
        )
        parser.add_argument("--moved-from", metavar="URL", default="", help=_("本地模型服务原来的地址"))

    def run(
        self, *, demo_logins: bool, starting: bool, alone: bool, moved_from: str, **_options: object
    ) -> dict[str, object]:
        compiled = sum(compile_catalogue(path) for path in catalogues())
        Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where there is none
        keep_private(settings.DATABASES["default"])
        call_command("migrate", interactive=False, verbosity=0)
        if starting:
            seeding.forget_last_start()
        if alone:
            seeding.take_over()
        if moved_from:
            new_url = settings.LLM_ENDPOINTS["default"].base_url
            seeding.move_models(old_url=moved_from, new_url=new_url)
        seeding.seed_ingredients()
        seeding.seed_template()
        seeding.seed_groups()
        language_models.ensure_models()
        if demo_logins:
            seeding.seed_logins()
        self.say(_("站点已准备好。"))
        return {"catalogues": compiled}


def keep_private(database: dict[str, object]) -> None:
    """A SQLite file is made for our user alone, an older one tightened; its log and index files take its mode."""
    path = Path(str(database["NAME"]))
    if database["ENGINE"] == "django.db.backends.sqlite3" and path.parent.is_dir():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)


def catalogues() -> list[Path]:
    return sorted(
        path for folder in settings.LOCALE_PATHS for path in Path(folder).glob("*/LC_MESSAGES/*.po")
    )


def compile_catalogue(source: Path) -> bool:
    """Writes the `.mo` beside its `.po` if that is newer; True if it did. Two starts at once do no harm."""
    target = source.with_suffix(".mo")
    if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return False
    with source.open("rb") as file:
        catalogue = read_po(file, locale=source.parts[-3])
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    write_file(target, compiled.getvalue(), mode=0o644)
    return True
