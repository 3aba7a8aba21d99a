"""The forecast demo: a Prophet fit, logged by MLflow, answered by a real server beside Prophet itself.

`series` reads and splits, `reference` fits, saves and asks Prophet, `engine` asks the server, `comparison` holds the
two against each other, `picture` draws them.
"""

import logging

# Prophet asks for a plotting package that is not needed here, and Stan reports each fit.
for name in ("prophet.plot", "cmdstanpy"):
    logging.getLogger(name).disabled = True
