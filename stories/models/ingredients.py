"""What a story is asked with: the known ingredients and the template's wording."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Ingredient(models.Model):
    """A known ingredient, offered by the pickers; readers may type others."""

    class Axis(models.TextChoices):
        DYNASTY = "dynasty", _("朝代")
        SUPER_POWER = "super_power", _("超能力")
        STORY_TYPE = "story_type", _("战斗")

    axis = models.CharField(_("类别"), max_length=12, choices=Axis.choices)
    name = models.CharField(_("名称"), max_length=32)
    position = models.PositiveIntegerField(_("次序"), default=0)

    class Meta:
        verbose_name = _("配料")
        verbose_name_plural = _("配料")
        ordering = ["axis", "position", "pk"]
        constraints = [models.UniqueConstraint(fields=["axis", "name"], name="ingredient_once_per_axis")]

    def __str__(self) -> str:
        return self.name


class Template(models.Model):
    """The wording that turns a combo into a prompt; a new wording is a new version."""

    name = models.CharField(_("名称"), max_length=40)
    version = models.PositiveIntegerField(_("版本"), default=1)
    system = models.TextField(_("系统消息"))
    user = models.TextField(_("用户消息"), help_text=_("可用 {dynasty}、{super_power}、{story_type}。"))
    created_at = models.DateTimeField(_("创建时间"), auto_now_add=True)

    class Meta:
        verbose_name = _("提示词模板")
        verbose_name_plural = _("提示词模板")
        ordering = ["name", "-version"]
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="template_version_once")]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
