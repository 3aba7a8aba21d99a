"""The demo: a real server, real held-out data, and every reply held against what happened.

`scenario` chooses rows and model, `server` runs the binary, `client` sends the rows over gRPC, `verdict`
compares the replies with the same model run in process and with the observed clicks, `picture` draws it.
"""
