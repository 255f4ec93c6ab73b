"""What works with the official clients, proved call by call; `docs/conformance.md` is made of it.

    openai_cases, anthropic_cases   what a user would write, one case for each feature
    asking                          a case, asked of a client in each of its ways
    comparison                      a provider's own answer beside the gateway's, field by field
    said                            what an answer says, whichever format it came in: for translated answers
    live                            `make test-live`: the same cases of the real providers, for €1.00 at most
    old_clients, versus             the same cases with the clients' older majors
    table                           the tables in `docs/conformance.md`

All but `live`, `old_clients` and `table` run where nothing is installed but the two clients.
"""
