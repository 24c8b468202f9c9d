"""JetStream's API: requests, retries, listings, messages, and writes that are made until they hold."""
