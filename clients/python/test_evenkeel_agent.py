"""Against a running agent (AGENT_SOCKET, AGENT_ADDRESS, AGENT_TOKEN, and AGENT_PID to stop it), as
the end-to-end tests start one; and against none."""

import os
import signal
import threading
import unittest

from evenkeel_agent import Agent, Away, Invalid, Refused

SOCKET, ADDRESS = os.environ.get("AGENT_SOCKET"), os.environ.get("AGENT_ADDRESS")
TOKEN, PID = os.environ.get("AGENT_TOKEN"), os.environ.get("AGENT_PID")


@unittest.skipUnless(SOCKET, "no agent")
class WithAgent(unittest.TestCase):
    """The service web has the endpoints a and b, and c with weight 0; empty has none."""

    def setUp(self):
        self.agents = [Agent(SOCKET), Agent(ADDRESS, token=TOKEN)]

    def test_pick_and_report(self):
        for agent in self.agents:
            pick = agent.pick("web")
            self.assertIn((pick.endpoint, pick.host, pick.port),
                          [("a", "127.0.0.1", 5001), ("b", "127.0.0.1", 5002)])
            self.assertFalse(pick.is_last_known)
            pick.report("success", latency=0.01)
            pick.report("success")  # does nothing
            self.assertEqual(agent.pick("web", exclude=["a"], key="ann").endpoint, "b")
            self.assertRaises(ValueError, agent.pick("web").report, "good")
            self.assertEqual([e["id"] for e in agent.endpoints("web")], ["a", "b", "c"])

    def test_a_block_reports_how_it_was_left(self):
        told = []
        agent = self.agents[0]
        ask = agent._ask
        agent._ask = lambda method, path, body=None: (told.append(body), ask(method, path, body))[1]
        for error, outcome in [(None, "success"), (ConnectionRefusedError, "connect_failed"),
                               (ConnectionResetError, "broken"), (TimeoutError, "timed_out"),
                               (OSError, "connect_failed"), (KeyError, "abandoned")]:
            try:
                with agent.pick("web"):
                    if error:
                        raise error("oh")
            except Exception as left:
                self.assertIsInstance(left, error)
            self.assertEqual(told[-1]["outcome"], outcome)
            self.assertEqual("latency_ms" in told[-1], error is None)

    def test_refusals(self):
        for agent in self.agents:
            with self.assertRaises(Refused) as refused:
                agent.pick("empty")
            self.assertEqual(refused.exception.reason, "no_endpoint")
            with self.assertRaises(Invalid) as invalid:
                agent.pick("nothing")
            self.assertEqual(invalid.exception.status, 404)
        self.assertRaises(Invalid, Agent(ADDRESS, token="wrong").pick, "web")

    def test_several_threads(self):
        failed = []

        def call(agent):
            try:
                for _ in range(50):
                    with agent.pick("web"):
                        pass
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=call, args=(self.agents[n % 2],)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])

    def test_z_the_agent_goes_away(self):
        """The last one: it ends the agent."""
        for agent in self.agents:
            with agent.pick("web"):
                pass
        os.kill(int(PID), signal.SIGKILL)
        for agent in self.agents:
            ports = []
            for _ in range(6):
                with agent.pick("web") as pick:
                    # What was sent just before the end may still have been answered.
                    if pick.is_last_known:
                        ports.append(pick.port)
            self.assertEqual(set(ports), {5001, 5002})
            self.assertRaises(Away, agent.pick, "empty")


class WithoutAgent(unittest.TestCase):
    def test_nothing_is_known(self):
        for place in ("/nonexistent/agent.sock", "127.0.0.1:9"):
            agent = Agent(place)
            for _ in range(2):
                self.assertRaises(Away, agent.pick, "web")


if __name__ == "__main__":
    unittest.main()
