"""What crosses a process: the gRPC contract, its dataclasses, and the one error tree."""
