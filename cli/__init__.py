"""The command line: the only place where shards, pipeline and model meet."""
