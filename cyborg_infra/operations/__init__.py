"""What is done with a running organisation; one module an operation, each a handful of calls, as `pipeline` is for provisioning."""
