"""Alerts: what people should know of is noticed, raised once in its period, and brought to them.

rules        what deserves an alert; pure
evaluation   looks at all organizations, in a fixed number of queries
raising      the one writer of alerts; their deliveries are written with them
words        what an alert says, and where to act on it
destinations whom alerts go to
deliveries   the way there: tried again and again, then given up and shown
webhook, mail   by which way
"""
