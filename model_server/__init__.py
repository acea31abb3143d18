"""An OpenAI-compatible server that trains and serves small Chinese story models; stands alone from the site."""
