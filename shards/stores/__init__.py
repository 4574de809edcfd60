"""Shard sets beyond this machine's folders: http, s3, dvc. `shards.store.open_store` chooses among them."""
