"""The client of OpenAI-compatible endpoints. Nothing in here knows the site; import its modules by name."""
