"""Reading of video data sets: frames, clips and their annotations."""
