"""What is said and done about a running organisation: status, dead letters, messages that are sent."""
