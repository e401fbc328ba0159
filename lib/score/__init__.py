"""From prediction files to numbers, one module a benchmark, in its results layout; and the tracker that writes them.

Whatever is missing, unreadable, of another size or against a benchmark's rules raises `lib.errors.UserError`: one line
that names the file or value. Nothing is written into the data folders. Shape letters: `T` frames, `H W` pixels.
"""
