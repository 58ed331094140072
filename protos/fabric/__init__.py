"""Generated stubs of the gRPC contract; only protos/codec.py, rpc and the gRPC client import them."""
