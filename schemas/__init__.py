"""The records on the topics, as Protobuf; `v1` holds the sources and the generated code."""
