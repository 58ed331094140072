"""Generated stubs of the gRPC contract; only protos/codec, rpc and the gRPC client import them."""
