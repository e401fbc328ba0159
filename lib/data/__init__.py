"""Reading of video data sets: frames, clips and their annotations.

What is missing, damaged or of another form than the data set's is a UserError that names the file, raised when it is
read: data sets hold paths, and decode a frame or a mask when it is asked for.
"""
