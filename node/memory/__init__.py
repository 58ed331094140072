"""What models cost in memory: the ledger that decides, and the probes that measure."""
