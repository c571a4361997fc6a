"""Do profiles still mean something to somebody who is not the decoder? The two-choice task of Section 4.6 and Appendix D.

A respondent reads a profile and two items and says which one the user took next. `tasks` makes the tasks, `judges` lets a model
answer them, `survey` lets people; `analysis` treats the answers of both alike.
"""
