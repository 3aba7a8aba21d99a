"""Model versions from a real MLflow to a real server, under load.

`mlflow_server` runs MLflow, `variants` makes versions of the demo model, good and broken, `traffic` asks without
pause and checks each answer against the version that gave it.
"""
