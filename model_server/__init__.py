"""An OpenAI-compatible server that trains and serves small Chinese story models; independent of the site."""
