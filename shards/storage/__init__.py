"""Shard sets beyond this machine's folders, and a cache for them. `shards.store.open_store` chooses by URL."""
