"""The rows of the domain of training (floor 4)."""

from finetuning.models.datasets import Dataset, DatasetRow
from finetuning.models.jobs import Job, JobEvent, JobStep

__all__ = ["Dataset", "DatasetRow", "Job", "JobEvent", "JobStep"]
