"""Data sets from where they are published to the layouts that lib.data reads: fetched, verified, unpacked."""
