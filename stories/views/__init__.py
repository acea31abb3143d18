"""The readers' pages: form in, domain call, redirect or render.

`library` and `pages` show stories; `orders` has them written; `reactions` takes what a reader says of one;
`accounts` signs readers up; `probes` answers machines.
"""
