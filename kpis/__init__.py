"""What the euro bought: outcomes, key figures, dashboards. The room is there, and empty as yet.

It reads the decisions and cost records of the rooms below it, and writes only its own outcomes and roll-ups.
"""
