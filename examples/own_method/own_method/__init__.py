"""A head, a network, a loss, a data set and a plan: what layerwise trains without being changed."""
