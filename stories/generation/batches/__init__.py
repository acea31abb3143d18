"""Batch mode: a run through the provider's Batch API, at half the price and within a day.

gathering    claims stories of a run, reserves their money, and makes the file of their requests
remote       the calls to the provider
advancing    one step of an order: gather, upload, create, poll; each under a lease with a fence
collecting   what came back, each story once; what did not come back goes to the queue again
lines        what stands in a line of a result file, however odd
backoff      when a run may order again after an order that brought little or nothing
deciding     what a person may decide about an order that cannot go on by itself
"""

from stories.generation.batches.decisions import give_up, send_again
from stories.generation.batches.orders import due_orders, open_order
from stories.generation.batches.steps import advance_batch

__all__ = ["advance_batch", "due_orders", "give_up", "open_order", "send_again"]
