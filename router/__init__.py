"""Keeps jobs, decides where each goes, and tells how they went. HTTP and events; no device work."""
