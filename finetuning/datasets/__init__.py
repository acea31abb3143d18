"""Datasets: approved stories, frozen. The way of one: selection → lines → files → build."""

from finetuning.datasets.build import Preview, build_dataset, find_dataset, preview_dataset
from finetuning.datasets.files import full_path, open_file
from finetuning.datasets.selection import count_thinking

__all__ = [
    "Preview",
    "build_dataset",
    "count_thinking",
    "find_dataset",
    "full_path",
    "open_file",
    "preview_dataset",
]
