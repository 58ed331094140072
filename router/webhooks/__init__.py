"""Webhooks: what happened is told to the URLs that asked for it, at least once. Start at hooks.py."""
