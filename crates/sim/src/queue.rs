use std::cmp::Ordering;
use std::collections::BinaryHeap;

use model::Instant;

use crate::server::Arrival;

/// What happens at some moment. Requests are named by their slot and the serial number of the
/// attempt (or of the request itself, for `Deadline`), so that an event of a former life of the
/// slot is told apart and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A client of an open loop sends, and `epoch` is still its rate's.
    Arrive {
        client: u32,
        epoch: u32,
    },
    /// A user of a closed loop sends.
    Ask {
        client: u32,
    },
    /// An endpoint is done with a request, unless it restarted since `epoch`.
    Finish {
        server: u32,
        epoch: u32,
        slot: u32,
        serial: u32,
        answer: Answer,
        arrival: Arrival,
    },
    /// The connection was refused, or was reset.
    Broke {
        slot: u32,
        serial: u32,
        connected: bool,
    },
    ConnectTimeout {
        slot: u32,
        serial: u32,
    },
    FirstByteTimeout {
        slot: u32,
        serial: u32,
    },
    /// The answer took so long that a second endpoint is to be asked.
    Hedge {
        slot: u32,
        serial: u32,
    },
    /// The client gives up, or the service's total time is over.
    Deadline {
        slot: u32,
        serial: u32,
    },
    /// Somebody has waited for an endpoint with room for as long as may be.
    QueueTimeout {
        slot: u32,
        serial: u32,
    },
    /// A service has something due.
    Poll {
        balancer: u32,
    },
    /// A health check ends.
    Checked {
        balancer: u32,
        server: u32,
        generation: u64,
        passed: bool,
    },
    /// The answer to a policy's question comes to a balancer, or fails to.
    Probed {
        balancer: u32,
        server: u32,
    },
    /// An endpoint gets another share of its machine.
    Antagonize {
        server: u32,
    },
    /// The control side takes up what a report made suspect.
    Judge {
        balancer: u32,
        server: u32,
    },
    /// The grace of an endpoint that leaves is over.
    Cut {
        balancer: u32,
        server: u32,
    },
    /// A balancer learns which endpoints there are.
    Discover {
        balancer: u32,
        version: u32,
    },
    /// Something of the scenario begins or ends.
    Begin {
        event: u32,
    },
    End {
        event: u32,
    },
    /// The next endpoint of a roll-out.
    Replace {
        event: u32,
        step: u32,
    },
    /// A new or restarted endpoint can be reached.
    Booted {
        server: u32,
        boots: u32,
    },
    /// A process that was taken out of service ends.
    Stop {
        server: u32,
    },
    /// Faults have had their time: from here on liveness is owed.
    Calm,
    Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Success,
    ServerError,
    Reset,
}

/// Events by time; those of one moment in the order in which they were added.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    added: u64,
}

struct Entry {
    at: Instant,
    number: u64,
    event: Event,
}

impl Queue {
    pub(crate) fn add(&mut self, at: Instant, event: Event) {
        self.added += 1;
        self.heap.push(Entry { at, number: self.added, event });
    }

    pub(crate) fn next(&mut self) -> Option<(Instant, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

// The greatest comes out first: that is the earliest here.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

/// What happened so far, in one number: FNV-1a (Fowler, Noll and Vo) over words instead of bytes,
/// with a shift so that upper bits reach lower ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History(pub(crate) u64);

impl Default for History {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl History {
    pub(crate) fn add(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3);
        self.0 = mixed ^ (mixed >> 29);
    }

    pub(crate) fn event(&mut self, at: Instant, event: &Event) {
        let words = match *event {
            Event::Arrive { client, epoch } => [1, client.into(), epoch.into()],
            Event::Ask { client } => [2, client.into(), 0],
            Event::Finish { server, epoch, slot, serial, answer, .. } => {
                let request = u64::from(slot) << 32 | u64::from(serial);
                [3 | (answer as u64) << 8, u64::from(server) << 32 | u64::from(epoch), request]
            }
            Event::Broke { slot, serial, connected } => {
                [4 | u64::from(connected) << 8, slot.into(), serial.into()]
            }
            Event::ConnectTimeout { slot, serial } => [5, slot.into(), serial.into()],
            Event::FirstByteTimeout { slot, serial } => [6, slot.into(), serial.into()],
            Event::Deadline { slot, serial } => [7, slot.into(), serial.into()],
            Event::Poll { balancer } => [8, balancer.into(), 0],
            Event::Checked { balancer, server, generation, passed } => {
                let place = u64::from(balancer) << 32 | u64::from(server);
                [9 | u64::from(passed) << 8, place, generation]
            }
            Event::Judge { balancer, server } => [10, balancer.into(), server.into()],
            Event::Cut { balancer, server } => [11, balancer.into(), server.into()],
            Event::Discover { balancer, version } => [12, balancer.into(), version.into()],
            Event::Begin { event } => [13, event.into(), 0],
            Event::End { event } => [14, event.into(), 0],
            Event::Replace { event, step } => [15, event.into(), step.into()],
            Event::Booted { server, boots } => [16, server.into(), boots.into()],
            Event::Stop { server } => [17, server.into(), 0],
            Event::Probed { balancer, server } => [20, balancer.into(), server.into()],
            Event::Antagonize { server } => [21, server.into(), 0],
            Event::Calm => [18, 0, 0],
            Event::Sample => [19, 0, 0],
            Event::Hedge { slot, serial } => [21, slot.into(), serial.into()],
            Event::QueueTimeout { slot, serial } => [20, slot.into(), serial.into()],
        };
        self.add(at.as_nanos());
        words.into_iter().for_each(|word| self.add(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_order() {
        let mut queue = Queue::default();
        for (at, client) in [(5, 0), (1, 1), (5, 2), (0, 3), (1, 4)] {
            queue.add(Instant::from_nanos(at), Event::Ask { client });
        }
        let mut order = Vec::new();
        while let Some((_, Event::Ask { client })) = queue.next() {
            order.push(client);
        }
        assert_eq!(order, [3, 1, 4, 0, 2]);
    }
}
