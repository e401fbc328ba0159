"""Tensor arithmetic on patches, cubes and masks: no weights, no data. What cannot work raises `UserError`, one line."""
