"""Learned models, one file each with its objective. They know nothing of data sets or training."""
