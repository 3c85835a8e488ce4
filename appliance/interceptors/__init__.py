"""What surrounds every call: errors become google.rpc.Status, calls become log lines without digits."""
