"""Reference trainer: from CTR data to a model version that aibuyer serves.

The way data takes: `upworthy` or `open_bandit` read rows and split them, `spec` fixes how named
features become tensors, `encoder` applies it, `deepfm` and `training` learn the logit, `variance` fits
how far a creative's true CTR may lie from it, `onnx_graph` and `artifact` write the files, `self_check`
reads them back as the server would. Nothing here knows about gRPC or about a running server.
"""
