"""Batch mode: a run through the provider's Batch API, at half the price and within a day.

orders       opens an order of a run, claims its stories and reserves their money
steps        one step of an order: gather, upload, create, poll; each under a lease with a fence
lease        the lease of an order
remote       the calls to the provider
results      writes each answer to its story once; what was not answered is queued again
lines        reads a line of a result file, however odd
backoff      when a run may order again after an order that brought little or nothing
decisions    what a person may decide about an order that cannot go on by itself
"""

from stories.generation.batches.decisions import give_up, send_again
from stories.generation.batches.orders import due_orders, open_order
from stories.generation.batches.steps import advance_batch

__all__ = ["advance_batch", "due_orders", "give_up", "open_order", "send_again"]
