"""The records on the topics and the gRPC services, as Protobuf: sources and generated code."""
