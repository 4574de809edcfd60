"""Where shard sets lie: folders, web servers, buckets, DVC remotes, and a cache for what is remote. `open` chooses."""
