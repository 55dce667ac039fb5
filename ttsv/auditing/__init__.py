"""The audit of a release: what released vectors and completions show by themselves, without a GPU and without weights.

``release_files`` finds and reads the files; ``initializations`` and ``vectors`` compare vectors with untrained draws (these alone
need torch); ``verdicts`` grades again; ``traits``, ``rates`` and ``readings`` look at the completions' text; ``arithmetic`` and
``tool_outputs`` check printed results; ``tables``, ``figures`` and ``page`` write what was found. ``ttsv.audit`` is the command.
"""
