"""`check_endpoint ALIAS`: finds out what an endpoint can do; first it says what that costs."""

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from stories.endpoint_checks import LABELS, VERDICTS, check_endpoint, endpoint_of, price_of, trial_model
from stories.management.output import SiteCommand, terminal_name
from stories.values.money import show, to_usd


class Command(SiteCommand):
    help = "看看一个接入点会什么：列出它有的，再试问两次。先报价。"
    json_keys = ("endpoint", "base_url", "model", "price", "findings")

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("alias", metavar="ALIAS", help=_("接入点的别名；默认的叫 default"))
        parser.add_argument("--model", default="", help=_("试问哪个模型；不写就由本站选"))
        parser.add_argument("--yes", action="store_true", help=_("开始检查"))

    def run(self, *, alias: str, model: str, yes: bool, **options: object) -> dict[str, object]:
        place, tried = endpoint_of(alias), trial_model(alias, model)
        price = price_of(tried)
        known: dict[str, object] = {
            "endpoint": place.alias,
            "base_url": place.base_url,
            "model": tried.name if tried else None,
            "price": None if price is None else to_usd(price),
            "findings": None,
        }
        words = {"url": place.base_url, "model": tried.name if tried else "—", "price": show(price)}
        if not yes:
            self.say(
                _("检查 %(url)s：列出它有的不花钱，试问 %(model)s 两次最多 %(price)s。加 --yes 开始。")
                % words
            )
            return known
        check = check_endpoint(alias, by=terminal_name(), model=tried)
        for finding in check.findings:
            label, verdict = LABELS[finding["name"]], VERDICTS[finding["verdict"]]
            self.say(f"{verdict} · {label} · {finding['asked']} · {finding['answered']}")
        return known | {"findings": check.findings}
