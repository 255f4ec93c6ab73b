"""The month's statement of an organization: its figures, and how they are put on paper and into a workbook.

`figures` reads them, all as of one instant; `sections` says them in words; `pdf` and `xlsx` write the same
sections.
"""
