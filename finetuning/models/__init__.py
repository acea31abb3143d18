"""The rows of the domain of training."""

from finetuning.models.datasets import Dataset, DatasetRow
from finetuning.models.jobs import Job, JobEvent, JobStep

__all__ = ["Dataset", "DatasetRow", "Job", "JobEvent", "JobStep"]
