"""The leak gate: images that two parts of the data share, equal or nearly so."""
