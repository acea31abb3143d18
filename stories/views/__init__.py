"""The readers' pages: form in, domain call, redirect or render.

`library` and `pages` show; `orders` has stories written; `reactions` says what a reader makes of one;
`accounts` keeps them; `probes` answer machines.
"""
