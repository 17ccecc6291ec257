"""Statistics of layers on calibration data, and compression layer by layer on them."""
