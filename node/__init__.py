"""One process per device: local models of every modality under one scheduler and one memory ledger."""
