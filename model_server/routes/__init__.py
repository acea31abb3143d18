"""One module per group of endpoints; each exports `routes`, which app.py mounts under /v1."""
