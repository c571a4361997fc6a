"""The human study (Appendix D.2): consent, three screening questions, nine tasks, a questionnaire, in plain HTML.

`assignment` says who is asked what, `participant` what somebody has done so far, `survey` is the study without the web, `app`
the web. Left out: recruiting and paying people. A participant leaves with a completion code, and the code is in the results.
"""
