"""Running the site: heartbeats, health, the task queue, the audit trail, what a new site starts with."""
