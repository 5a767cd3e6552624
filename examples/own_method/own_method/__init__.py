"""A head, a network, a loss: what layerwise trains without being changed."""
