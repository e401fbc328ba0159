"""Label propagation, and measures of tracking, recognition and uncertainty. Knows neither models nor data formats.

Arguments that do not fit (shapes, values that are not finite or out of range, unknown names) raise
`lib.errors.UserError`: one line that names them.
"""
