"""Pure tensor arithmetic on patches and masks: no weights, no data."""
