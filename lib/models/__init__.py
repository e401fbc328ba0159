"""Learned models, each file with its objective; they know nothing of data sets or training.

`model(batch)` returns (loss, logs) for a batch of uint8 images or videos; `model.architecture`, plain values, guards
its checkpoints. What cannot work raises `UserError`, one line that says what can, where possible when a model is built.
"""
