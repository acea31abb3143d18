"""Models that may write stories, and which of them is in use."""

from decimal import Decimal
from typing import Any, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from llm.dialects import Dialect, family_of, read_dialect
from llm.thinking import seems_to_open_inside

MAX_USD = Decimal(10_000)
"""What a million tokens may cost at most: above any price list, and far from what the counters hold."""
PRICES = ("input_price", "output_price", "training_price", "cached_input_price")


# Any: a lazy translation or a text, as Django's fields take them.
def _price(label: Any) -> "models.DecimalField[Any, Any]":
    return models.DecimalField(
        label,
        max_digits=12,
        decimal_places=4,
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(MAX_USD)],
    )


def _prices_in_range() -> Q:
    """No price, or one within the range; a NaN, which PostgreSQL holds greater than any number, is outside."""
    allowed = Q()
    for name in PRICES:
        allowed &= Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gte": 0, f"{name}__lte": MAX_USD})
    return allowed


class PromptStyle(models.TextChoices):
    """How a model is asked; set from the dataset it was trained on."""

    TEMPLATE = "template", _("模板（系统与用户消息）")
    CHAT = "chat", _("对话（只给配方）")
    COMPLETION = "completion", _("续写（配方 ->）")


class LanguageModelQuerySet(models.QuerySet["LanguageModel"]):
    def promoted(self) -> Self:
        """Those that were ever put in use, the serving model first."""
        return self.filter(promoted_at__isnull=False).order_by("-promoted_at", "-pk")


class LanguageModel(models.Model):
    """A name at an endpoint. Prices are USD per million tokens; null is unknown, 0 is free.

    `dialect_settings`: how it is asked (`llm/dialects.py`); null: as its family is. `dialect_version` grows with each
    change, so that what was learnt from an older dialect never overwrites a newer one.


    `cached_input_price` is asked for the part of a prompt that the provider had read before; null: as any other part.
    """

    name = models.CharField(_("名称"), max_length=200)
    endpoint = models.CharField(_("接入点"), max_length=40, default="default")
    base_url = models.CharField(_("地址"), max_length=300)
    base = models.CharField(_("基础模型"), max_length=200)
    parent = models.ForeignKey(
        "self",
        verbose_name=_("父模型"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="children",
    )
    prompt_style = models.CharField(
        _("提问方式"), max_length=12, choices=PromptStyle.choices, default=PromptStyle.TEMPLATE
    )
    system_message = models.TextField(_("系统消息"), blank=True)
    stop = models.CharField(_("停止串"), max_length=40, blank=True)
    input_price = _price(_("输入价"))
    output_price = _price(_("输出价"))
    training_price = _price(_("训练价"))
    cached_input_price = _price(_("缓存输入价"))
    opens_in_thinking = models.BooleanField(
        _("回答从思考里开始"),
        null=True,
        blank=True,
        help_text=_(
            "模型的回答不写思考的开头标签，只写结尾的标签。这样的回答等思考结束才给读者看。"
            "空白：按名称判断，直到它的回答说明了。"
        ),
    )
    dialect_settings = models.JSONField(_("接口方言"), null=True, blank=True, editable=False)
    dialect_version = models.PositiveIntegerField(default=0, editable=False)
    shutdown_date = models.DateField(_("停用日期"), null=True, blank=True)
    promoted_at = models.DateTimeField(_("启用时间"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)

    objects = LanguageModelQuerySet.as_manager()

    class Meta:
        verbose_name = _("模型")
        verbose_name_plural = _("模型")
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["name", "base_url"], name="model_once_per_address"),
            models.CheckConstraint(condition=_prices_in_range(), name="model_prices_in_range"),
        ]
        permissions = [("promote_languagemodel", "Can promote a language model")]

    def __str__(self) -> str:
        return self.name

    @property
    def dialect(self) -> Dialect:
        """How this model is asked: as its row says, else as is known of its family."""
        if self.dialect_settings is not None:
            return read_dialect(self.dialect_settings)
        return self.family_dialect

    @property
    def family_dialect(self) -> Dialect:
        """How models of its name are asked, as far as is known."""
        family = family_of(self.base or self.name, self.base_url)
        return family.dialect if family else Dialect()

    @property
    def opens_inside(self) -> bool:
        """Whether its answers may begin inside its thinking: as learnt, else as its name says."""
        return seems_to_open_inside(self.name) if self.opens_in_thinking is None else self.opens_in_thinking


class DialectLesson(models.Model):
    """What a refusal taught of how a model is asked. `named`: the parameter; `words`: the provider's."""

    language_model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="lessons")
    named = models.CharField(_("参数"), max_length=80)
    words = models.TextField(_("对方说"))
    dialect = models.JSONField(_("接口方言"))
    learnt_at = models.DateTimeField(_("时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("学到的问法")
        verbose_name_plural = _("学到的问法")
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.named
