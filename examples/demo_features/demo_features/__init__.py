"""Stored features, end to end: campaigns in ClickHouse, a model that is trained on them and looks them up.

`clickhouse` runs a real ClickHouse, `seed` fills it, `model` trains, `scenes` shows what a caller sees, also while
ClickHouse is away. The server binary makes the tables and answers; nothing of it is imitated here.
"""
