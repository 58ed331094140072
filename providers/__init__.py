"""The places that a task can go: nodes, and vendors, behind one small protocol."""
