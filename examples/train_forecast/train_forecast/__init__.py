"""Trains a forecaster on real hourly series and writes it as a model version that the server takes.

`python -m train_forecast --help` says how.
"""
