"""The trainers' pages in the admin (floor 7): datasets and jobs."""

from finetuning.admin import datasets, jobs

__all__ = ["datasets", "jobs"]
