"""Builds, previews and finds datasets. Files first, rows second: a failure leaves no dataset."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from finetuning.datasets.files import sha256, store
from finetuning.datasets.lines import choose_stop, count_tokens, render_lines
from finetuning.datasets.selection import MINIMUM_ROWS, Row, Selection, select_rows
from finetuning.errors import BadDataset
from finetuning.models import Dataset, DatasetRow
from stories.models import Run

NAME = re.compile(r"\w[\w.-]{0,59}")
VERSION_TRIES = 20


@dataclass(frozen=True)
class Preview:
    """What a dataset would hold if it were built now. `problem` says why it can't be, "" if it can."""

    training_rows: int
    validation_rows: int
    duplicates: int
    thinking: int
    tokens: int
    problem: str

    @property
    def rows(self) -> int:
        return self.training_rows + self.validation_rows


def preview_dataset(
    *, runs: Collection[Run] = (), since: Dataset | None = None, format: str = Dataset.Format.CHAT
) -> Preview:
    """The figures of a dataset of these choices; writes nothing."""
    selection = select_rows(runs=runs, since=since)
    tokens = count_tokens(selection.training, format=format, stop="")
    problem = _too_few(selection, runs=runs, since=since)
    return Preview(
        len(selection.training),
        len(selection.validation),
        selection.duplicates,
        selection.thinking,
        tokens,
        problem,
    )


def build_dataset(
    name: str,
    *,
    runs: Collection[Run] = (),
    since: Dataset | None = None,
    format: str = Dataset.Format.CHAT,
    by: AbstractBaseUser | None = None,
) -> Dataset:
    """Freezes approved stories (all, of the runs, or those not in `since` and its chain) as the next version.

    Raises `BadDataset`: a bad name or format, or fewer than ten rows.
    """
    _check(name, format)
    selection = select_rows(runs=runs, since=since)
    if problem := _too_few(selection, runs=runs, since=since):
        raise BadDataset(problem)
    dataset = _render(name, selection, format=format)
    dataset.since, dataset.created_by_id = since, by.pk if by else None
    return _save(dataset, selection, runs=runs)


def find_dataset(reference: str) -> Dataset:
    """`NAME` is the newest version, `NAME@2` the second. Raises `BadDataset`."""
    name, at, version = reference.partition("@")
    named = Dataset.objects.filter(name=name).order_by("-version")
    if at:
        named = named.filter(version=int(version)) if _is_version(version) else named.none()
    if dataset := named.first():
        return dataset
    raise BadDataset(_("没有名为 %(name)s 的数据集。") % {"name": reference})


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _check(name: str, format: str) -> None:
    if not NAME.fullmatch(name):
        raise BadDataset(_("数据集名称只能有文字、数字、点、横线和下划线，最多 60 个字。"))
    if format not in Dataset.Format.values:
        raise BadDataset(_("数据集的格式只能是 chat 或 completion。"))


def _too_few(selection: Selection, *, runs: Collection[Run], since: Dataset | None) -> str:
    """Why these rows make no dataset; "" if they do."""
    if selection.rows >= MINIMUM_ROWS:
        return ""
    words = {"rows": selection.rows, "minimum": MINIMUM_ROWS, "duplicates": selection.duplicates}
    if selection.thinking:
        words["thinking"] = selection.thinking
        return _(
            "只有 %(rows)s 篇可用的已采纳故事，至少要 %(minimum)s 篇。另有 %(thinking)s 篇的正文里有模型的思考，"
            "不能用来训练：请先运行 mend_thinking。"
        ) % (words)
    if selection.duplicates:
        return _(
            "只有 %(rows)s 篇可用的已采纳故事（另有 %(duplicates)s 篇重复），至少要 %(minimum)s 篇。"
        ) % (words)
    if since:
        words["since"] = str(since)  # type: ignore[assignment]
        return _("自 %(since)s 以来只有 %(rows)s 篇新采纳的故事，至少要 %(minimum)s 篇。") % words
    if runs:
        return _("所选批次里只有 %(rows)s 篇已采纳的故事，至少要 %(minimum)s 篇。") % words
    return _("只有 %(rows)s 篇已采纳的故事，至少要 %(minimum)s 篇。请先审核更多故事。") % words


def _render(name: str, selection: Selection, *, format: str) -> Dataset:
    """An unsaved dataset whose files are written."""
    everything = selection.training + selection.validation
    is_completion = format == Dataset.Format.COMPLETION
    stop = choose_stop(row.text for row in everything) if is_completion else ""
    training = render_lines(selection.training, format=format, stop=stop)
    validation = render_lines(selection.validation, format=format, stop=stop)
    return Dataset(
        name=name,
        format=format,
        stop=stop,
        training_rows=len(selection.training),
        validation_rows=len(selection.validation),
        tokens=count_tokens(selection.training, format=format, stop=stop),
        training_file=store(training, name=name, split="training"),
        sha256=sha256(training),
        validation_file=store(validation, name=name, split="validation") if validation else "",
        validation_sha256=sha256(validation) if validation else "",
    )


def _save(dataset: Dataset, selection: Selection, *, runs: Collection[Run]) -> Dataset:
    """The rows, in one transaction, as the next free version; another build of the name may be quicker."""
    for _try in range(VERSION_TRIES):
        newest = Dataset.objects.filter(name=dataset.name).aggregate(newest=Max("version"))["newest"]
        dataset.pk, dataset.version = None, (newest or 0) + 1
        try:
            with transaction.atomic():
                dataset.save(force_insert=True)
                dataset.runs.set(runs)
                DatasetRow.objects.bulk_create(_rows(dataset, selection), batch_size=500)
        except IntegrityError:
            if not Dataset.objects.filter(name=dataset.name, version=dataset.version).exists():
                raise
        else:
            return dataset
    raise BadDataset(_("正有许多人在建名为 %(name)s 的数据集，请稍后再试。") % {"name": dataset.name})


def _rows(dataset: Dataset, selection: Selection) -> list[DatasetRow]:
    splits = DatasetRow.Split
    return [
        _row(dataset, row, split=split, position=position)
        for split, rows in ((splits.TRAINING, selection.training), (splits.VALIDATION, selection.validation))
        for position, row in enumerate(rows)
    ]


def _row(dataset: Dataset, row: Row, *, split: str, position: int) -> DatasetRow:
    return DatasetRow(
        dataset=dataset,
        story_id=row.story_id,
        split=split,
        position=position,
        dynasty=row.combo.dynasty,
        super_power=row.combo.super_power,
        story_type=row.combo.story_type,
        text=row.text,
    )
