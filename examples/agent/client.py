"""Calls replicas that the agent names: `client.py ADDRESS_OF_THE_AGENT CALLS`.

Prints whom each call went to and what became of it, and at the end how many failed.
"""

import http.client
import sys

from evenkeel_agent import Agent


def call(agent):
    """One call, at another replica if the first cannot be reached."""
    tried = []
    for _ in range(3):
        try:
            with agent.pick("web", exclude=tried) as pick:
                tried.append(pick.endpoint)
                connection = http.client.HTTPConnection(pick.host, pick.port, timeout=5)
                connection.request("GET", "/")
                said = connection.getresponse().read().decode()
                known = ", last known" if pick.is_last_known else ""
                return True, f"{pick.endpoint}{known}: {said.strip()}"
        except OSError:
            continue  # Leaving the block has told the agent.
    return False, f"failed at {', '.join(tried)}"


def main():
    agent, count = Agent(sys.argv[1]), int(sys.argv[2])
    failed = 0
    for _ in range(count):
        fine, said = call(agent)
        failed += not fine
        print(said, flush=True)
    print(f"{failed} of {count} failed")


main()
