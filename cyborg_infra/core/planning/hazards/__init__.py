"""What a change would cost: messages lost, repeated or no longer stored."""
