"""Who steps when: the device loop, its policy, the waiting rooms and the learned costs."""
