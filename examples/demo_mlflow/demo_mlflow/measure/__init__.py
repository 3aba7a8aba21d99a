"""Measures what promotions cost, with a real MLflow and a real server. A module each for what must hold:

`latency` alias moved to first answer; `swaps` callers during promotions; `memory` of many loads and unloads;
`refusals` of broken versions; `crashes` of the server; `outage` of MLflow.
"""
