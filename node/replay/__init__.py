"""A node in virtual time: the real rooms, loop, ledger and service, with engines that only spend time. No torch, no threads."""
