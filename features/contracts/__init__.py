"""What jobs leave to each other on disk: folders, documents, shards, records, labels."""
