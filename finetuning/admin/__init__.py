"""The trainers' pages in the admin: datasets and jobs."""

from finetuning.admin import datasets, jobs

__all__ = ["datasets", "jobs"]
