//! Docker and Podman: follows the engine's events and tells how each container is.
//!
//! Start with `Watch::run`; `tracker.rs` decides, `decode.rs` reads, `engine.rs` asks.

pub mod decode;
mod engine;
mod exits;
pub mod tracker;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use model::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Provider, WatchOptions};
use crate::Message;
use crate::backoff::Backoff;
use decode::{Inspection, Sample};
use engine::{Ask, Engine, Line};
use tracker::{Step, Tracker};

pub const PROVIDER: Provider = Provider {
    name: "docker",
    summary: "the containers of a Docker engine or a Podman service",
    watch: |options, messages| Box::pin(watch(options, messages)),
};

/// Inspections under way at once: enough to hide the engine's latency, and few enough to leave it
/// time for others.
const INSPECTIONS_MAX: usize = 8;

/// Ends of processes that wait to be told.
const EXITS: usize = 64;

/// Between looks for what is due.
const TICK: Duration = Duration::from_secs(1);

async fn watch(options: WatchOptions, messages: mpsc::Sender<Message>) {
    let (exits_in, exits) = mpsc::channel(EXITS);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let watch = Watch {
        engine: Engine::new(options.socket.clone()),
        tracker: Tracker::new(hostname.trim()),
        start: std::time::Instant::now(),
        messages,
        exits,
        exits_in,
        statistics: options.statistics,
        samples: BTreeMap::new(),
    };
    watch.run(options.seed).await;
}

struct Watch {
    engine: Engine,
    tracker: Tracker,
    /// Times are counted from here.
    start: std::time::Instant,
    messages: mpsc::Sender<Message>,
    exits: mpsc::Receiver<(String, i32)>,
    exits_in: mpsc::Sender<(String, i32)>,
    statistics: Option<Duration>,
    samples: BTreeMap<String, Sample>,
}

/// Nobody listens any more.
struct Deaf;

/// Questions of one connection, and those that wait for their turn.
#[derive(Default)]
struct Questions {
    waiting: VecDeque<Ask>,
    under_way: JoinSet<(Ask, io::Result<Answer>)>,
}

enum Answer {
    Inspection(Box<Option<Inspection>>),
    Sample(Option<Sample>),
}

impl Watch {
    async fn run(mut self, seed: u64) {
        let mut backoff = Backoff::new(seed);
        loop {
            let lost = match self.follow(&mut backoff).await {
                Ok(error) => error,
                Err(Deaf) => return,
            };
            let reason = lost.to_string();
            if self.messages.send(Message::Lost { reason }).await.is_err() {
                return;
            }
            if self.wait(backoff.wait()).await.is_err() {
                return;
            }
        }
    }

    /// Follows one connection to its end, and answers why it ended.
    async fn follow(&mut self, backoff: &mut Backoff) -> Result<io::Error, Deaf> {
        // Events first: what happens after this is not missed, whatever the list says.
        let begun = async {
            let events = self.engine.events().await?;
            let version = self.engine.ask(&Ask::Version).await?;
            let list = self.engine.ask(&Ask::List).await?;
            let ids = list.as_deref().and_then(decode::list);
            let ids = ids.ok_or_else(|| io::Error::other("the list of containers is no list"))?;
            let name = version.as_deref().and_then(decode::version);
            Ok((events, name.unwrap_or_else(|| "an engine".to_owned()), ids))
        };
        let (mut events, name, ids) = match begun.await {
            Ok(begun) => begun,
            Err(error) => return Ok(error),
        };
        backoff.reset();
        let mut questions = Questions::default();
        let steps = self.tracker.begin(&name, ids);
        self.take(steps, &mut questions).await?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut statistics = interval(self.statistics.unwrap_or(TICK));
        statistics.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let steps = tokio::select! {
                // The kernel's word first: it is about this very moment.
                biased;
                Some((id, pid)) = self.exits.recv() => self.tracker.exited(&id, pid),
                line = events.next() => match line {
                    Ok(Some(Line::Whole(line))) => match decode::event(&line) {
                        Some(event) => self.tracker.event(&event, self.now()),
                        None => continue,
                    },
                    Ok(Some(Line::TooLong)) => {
                        return Ok(io::Error::other("an event is too long to be read"));
                    }
                    Ok(None) => return Ok(io::Error::other("the stream of events has ended")),
                    Err(error) => return Ok(error),
                },
                Some(answer) = questions.under_way.join_next() => match answer {
                    Ok((ask, answer)) => match self.answered(ask, answer).await? {
                        Ok(steps) => steps,
                        Err(error) => return Ok(error),
                    },
                    Err(error) => return Ok(io::Error::other(error)),
                },
                _ = ticks.tick() => self.tracker.tick(self.now()),
                _ = statistics.tick(), if self.statistics.is_some() => {
                    self.ask_statistics(&mut questions);
                    Vec::new()
                }
                () = self.messages.closed() => return Err(Deaf),
            };
            self.take(steps, &mut questions).await?;
            questions.advance(&self.engine);
        }
    }

    /// Sleeps, but hears the kernel.
    async fn wait(&mut self, wait: Duration) -> Result<(), Deaf> {
        let over = sleep(wait);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                () = self.messages.closed() => return Err(Deaf),
                Some((id, pid)) = self.exits.recv() => {
                    let steps = self.tracker.exited(&id, pid);
                    self.take(steps, &mut Questions::default()).await?;
                }
            }
        }
    }

    async fn take(&mut self, steps: Vec<Step>, questions: &mut Questions) -> Result<(), Deaf> {
        for step in steps {
            match step {
                Step::Tell(message) => self.messages.send(message).await.map_err(|_| Deaf)?,
                Step::Inspect(id) => questions.waiting.push_back(Ask::Inspect(id)),
                Step::Watch { id, pid } => exits::watch(id, pid, self.exits_in.clone()),
            }
        }
        questions.advance(&self.engine);
        Ok(())
    }

    async fn answered(
        &mut self,
        ask: Ask,
        answer: io::Result<Answer>,
    ) -> Result<Result<Vec<Step>, io::Error>, Deaf> {
        match (ask, answer) {
            (Ask::Inspect(id), Ok(Answer::Inspection(found))) => {
                let now = self.now();
                Ok(Ok(self.tracker.inspected(&id, *found, now)))
            }
            (Ask::Statistics(id), Ok(Answer::Sample(Some(sample)))) => {
                let before = self.samples.insert(id.clone(), sample);
                if let Some(usage) = before.and_then(|before| sample.since(&before)) {
                    let message = Message::Usage { id, usage };
                    self.messages.send(message).await.map_err(|_| Deaf)?;
                }
                Ok(Ok(Vec::new()))
            }
            // One may end while it is asked for.
            (Ask::Statistics(_), _) => Ok(Ok(Vec::new())),
            // Without the answer we would not know how it is: begin anew.
            (_, Err(error)) => Ok(Err(error)),
            (_, Ok(_)) => Ok(Ok(Vec::new())),
        }
    }

    fn ask_statistics(&mut self, questions: &mut Questions) {
        // An engine that has not answered the last ones gets no more.
        if questions.waiting.iter().any(|ask| matches!(ask, Ask::Statistics(_))) {
            return;
        }
        let running = self.tracker.running();
        self.samples.retain(|id, _| running.binary_search(id).is_ok());
        questions.waiting.extend(running.into_iter().map(Ask::Statistics));
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.start.elapsed().as_nanos() as u64)
    }
}

impl Questions {
    /// Inspections go before statistics.
    fn advance(&mut self, engine: &Engine) {
        while self.under_way.len() < INSPECTIONS_MAX {
            let first = self.waiting.iter().position(|ask| matches!(ask, Ask::Inspect(_)));
            let Some(ask) = self.waiting.remove(first.unwrap_or(0)) else { return };
            let engine = engine.clone();
            self.under_way.spawn(async move {
                let answer = match engine.ask(&ask).await {
                    Err(error) => Err(error),
                    Ok(bytes) => read(&ask, bytes.as_deref()),
                };
                (ask, answer)
            });
        }
    }
}

fn read(ask: &Ask, bytes: Option<&[u8]>) -> io::Result<Answer> {
    Ok(match (ask, bytes) {
        (Ask::Statistics(_), bytes) => Answer::Sample(bytes.and_then(decode::sample)),
        (_, None) => Answer::Inspection(Box::new(None)),
        (_, Some(bytes)) => {
            let found = decode::inspection(bytes);
            let found = found.ok_or_else(|| io::Error::other("a container cannot be read"))?;
            Answer::Inspection(Box::new(Some(found)))
        }
    })
}
