"""What the tool itself keeps in an account: the lease, what was last applied, backups and journals."""
