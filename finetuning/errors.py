"""What can go wrong in the domain of training, each a sentence its reader can act on.

TrainingError            a clear sentence; edges show `str(error)` and nothing else
├── BadDataset           a dataset cannot be built, found or trained on
├── BadJob               a job cannot be started, found, cancelled or read in this state
└── UnreadableResults    a results file that is no CSV we know; the job is finished without it
"""


class TrainingError(Exception):
    """A sentence for a person."""


class BadDataset(TrainingError):
    """A dataset that cannot be built, found or trained on."""


class BadJob(TrainingError):
    """A job that cannot do what was asked."""


class UnreadableResults(TrainingError):
    """A results file that cannot be read."""
