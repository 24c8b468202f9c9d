"""A declarative provisioner for the messaging backbone of an organisation of AI agents on NATS JetStream."""
