"""The OpenAI wire format: what requests and answers look like, with no I/O but an upload's."""
