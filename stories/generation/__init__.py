"""How one story is written.

prompts            what a model is asked
states             every change of a story's state: claim, queue again, end
attempts           the money of a call: reserved before it, settled after it
outcomes           what an answer or an error means for the story, its attempt, its run and the rate limiter
text_assembly      makes the pieces of an answer into text that can be stored and shown
completion         a story of a run, by one whole answer
streaming/         a reader's story, streamed
batches/           a run through the provider's Batch API
stop, sweeper      a person stops a story; rows whose process is gone are cleaned up
corrections        what a call really cost, by a person's word
connections        database connections around slow calls
"""
