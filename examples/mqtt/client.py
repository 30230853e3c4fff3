"""Holds MQTT sessions open, and publishes through each of them whenever you press Enter. Needs
`pip install paho-mqtt`.

    python3 client.py [PORT] [SESSIONS]
"""

import queue
import sys

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

PATIENCE_SECONDS = 30


class Session:
    """One connection that subscribes to a topic of its own and publishes to it."""

    def __init__(self, number, port):
        self.topic = f"example/{number}"
        self.arrived = queue.Queue()
        self.disconnects = 0
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=f"example-{number}")
        self.client.on_message = lambda client, data, message: self.arrived.put(message.payload)
        self.client.on_disconnect = self.on_disconnect
        self.client.on_subscribe = lambda *_: self.arrived.put("subscribed")
        self.client.connect("127.0.0.1", port, keepalive=60)
        self.client.loop_start()
        self.client.subscribe(self.topic, qos=1)
        self.expect("subscribed")

    def on_disconnect(self, client, data, flags, reason, properties):
        self.disconnects += 1

    def publish(self, text):
        self.client.publish(self.topic, text, qos=1)
        self.expect(text.encode())

    def expect(self, wanted):
        arrived = self.arrived.get(timeout=PATIENCE_SECONDS)
        if arrived != wanted:
            raise ValueError(f"{self.topic}: {arrived} instead of {wanted}")


def main(port="1883", count="6"):
    sessions = [Session(number, int(port)) for number in range(int(count))]
    print(f"{count} sessions; Enter publishes, the end of the input disconnects", flush=True)
    for turn, _ in enumerate(sys.stdin):
        for session in sessions:
            session.publish(f"message {turn}")
        disconnects = sum(session.disconnects for session in sessions)
        print(f"{count} of {count} came back, {disconnects} disconnects", flush=True)
    for session in sessions:
        session.client.disconnect()
        session.client.loop_stop()


main(*sys.argv[1:])
