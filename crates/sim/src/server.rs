use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::spec::scenario::{Antagonists, EndpointGroup, Fault, Latency, Member};
use model::{Endpoint, EndpointId, Instant, LatencyByLoad, Rng, Utilization, Weight};

use crate::balancer::Answered;
use crate::cache::Cache;
use crate::distribution::{draw, exponential, scaled};
use crate::processor::Processor;
use crate::queue::Answer;

/// One endpoint: threads that serve, a queue in front of them, and what is wrong with it.
pub(crate) struct Server {
    pub(crate) id: EndpointId,
    pub(crate) group: usize,
    pub(crate) weight: u16,
    pub(crate) priority: u8,
    zone: Option<String>,
    /// Grows whenever all that was under way is lost.
    pub(crate) epoch: u32,
    /// Grows with each start.
    pub(crate) boots: u32,
    booting: bool,
    stopped: bool,
    /// Since when it warms up; `None`: it is warm.
    cold_since: Option<Instant>,
    busy: u32,
    processor: Processor,
    queue: VecDeque<Job>,
    cache: Option<Cache>,
    /// What requests took lately, for those who ask.
    seen: LatencyByLoad,
    /// So many times as slow as alone on its machine.
    antagonized: f64,
    /// How often that changed.
    pub(crate) changes: u64,
    /// By the position of their event.
    faults: Vec<(u32, Fault)>,
}

/// A request as the endpoint sees it.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
    /// Names the stream of chance that this attempt draws from.
    pub(crate) number: u64,
    /// Whose request it is, for the endpoint's cache.
    pub(crate) user: u64,
    /// How long it is known to take; `None`: as the endpoint's group says.
    pub(crate) takes: Option<Duration>,
    pub(crate) arrival: Arrival,
}

/// When a request came to an endpoint, and how many that had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) found: u32,
}

impl Job {
    pub(crate) fn new(slot: u32, serial: u32, number: u64, now: Instant) -> Self {
        let arrival = Arrival { at: now, found: 0 };
        Self { slot, serial, number, user: 0, takes: None, arrival }
    }
}

/// What a request that begins to be served will take and get.
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) takes: Duration,
    pub(crate) answer: Answer,
}

pub(crate) enum Offer {
    Serves(Work),
    Queues,
    /// The queue is full, or nobody listens.
    Refuses {
        connected: bool,
    },
    /// There will be no answer of any kind.
    Silent,
}

/// How long a refused connection takes, and a reset: within one data centre.
pub(crate) const REFUSAL: Duration = Duration::from_micros(200);

/// The answer to a probe is so old when it comes: a round trip in one data centre, and the pause of a
/// busy machine before it answers.
pub(crate) const PROBE: Duration = Duration::from_micros(500);

/// An endpoint that had no request for so long does not know any more what one takes.
const MEMORY: Duration = Duration::from_secs(1);

/// What fails fast takes this long.
const FAST_FAILURE: Duration = Duration::from_millis(1);

/// A cold endpoint takes so many times as long at first.
const COLD_FACTOR: f64 = 5.0;

impl Server {
    /// The one of its group that was started as this `number`, from zero.
    pub(crate) fn new(id: EndpointId, group: usize, number: u32, spec: &EndpointGroup) -> Self {
        let Member { weight, priority, zone } = spec.member(number);
        Self {
            id,
            group,
            weight,
            priority,
            zone,
            epoch: 0,
            boots: 0,
            booting: false,
            stopped: false,
            cold_since: None,
            busy: 0,
            processor: Processor::new(spec.threads),
            queue: VecDeque::new(),
            cache: spec.cache.map(|cache| Cache::new(cache.keys)),
            seen: LatencyByLoad::default(),
            antagonized: 1.0,
            changes: 0,
            faults: Vec::new(),
        }
    }

    /// As a provider tells of it.
    pub(crate) fn endpoint(&self, index: u32) -> Endpoint {
        let mut endpoint = Endpoint::at(address(index));
        endpoint.id = self.id.clone();
        endpoint.weight = Weight(self.weight);
        endpoint.priority = self.priority;
        endpoint.zone = self.zone.as_deref().map(Into::into);
        endpoint
    }

    /// It starts: until `booted` it refuses.
    pub(crate) fn boot(&mut self) {
        self.boots += 1;
        self.booting = true;
    }

    pub(crate) fn booted(&mut self, now: Instant, spec: &EndpointGroup) {
        self.booting = false;
        if let Some(cache) = &mut self.cache {
            cache.clear();
        }
        self.cold_since = (!spec.warm_up.is_zero()).then_some(now);
    }

    /// The process ends.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.lose_all();
    }

    /// Answers whether what is under way is lost.
    pub(crate) fn afflict(&mut self, event: u32, fault: Fault) -> bool {
        self.faults.push((event, fault));
        let loses = matches!(fault, Fault::Crash | Fault::Hang);
        if loses {
            self.lose_all();
        }
        loses
    }

    /// Answers whether it must start anew.
    pub(crate) fn recover(&mut self, event: u32) -> bool {
        let crashed = |server: &Self| server.has(|fault| matches!(fault, Fault::Crash));
        let before = crashed(self);
        self.faults.retain(|(of, _)| *of != event);
        before && !crashed(self) && !self.stopped
    }

    fn lose_all(&mut self) {
        self.epoch += 1;
        self.busy = 0;
        self.processor.restart();
        self.queue.clear();
    }

    fn has(&self, matching: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|(_, fault)| matching(fault))
    }

    fn is_down(&self) -> bool {
        self.stopped || self.booting || self.has(|fault| matches!(fault, Fault::Crash))
    }

    fn is_silent(&self) -> bool {
        self.has(|fault| matches!(fault, Fault::Hang))
    }

    /// A request arrives.
    pub(crate) fn offer(
        &mut self,
        mut job: Job,
        now: Instant,
        spec: &EndpointGroup,
        rng: &mut Rng,
    ) -> Offer {
        if self.is_down() {
            return Offer::Refuses { connected: false };
        }
        if self.is_silent() {
            return Offer::Silent;
        }
        job.arrival.found = self.in_flight();
        if spec.threads.is_some_and(|threads| self.busy >= threads) {
            if self.queue.len() >= spec.queue_max as usize {
                return Offer::Refuses { connected: true };
            }
            self.queue.push_back(job);
            return Offer::Queues;
        }
        self.busy += 1;
        self.processor.set_busy(self.busy, now);
        Offer::Serves(self.work(job, now, spec, rng))
    }

    fn in_flight(&self) -> u32 {
        self.busy + self.queue.len() as u32
    }

    /// What it answers to a policy that asks how it is, if it does: all that it has, and what a
    /// request took lately at about that. What nothing is known of takes no time.
    pub(crate) fn probe(&self, now: Instant) -> Option<Answered> {
        if self.is_down() || self.is_silent() {
            return None;
        }
        let in_flight = self.in_flight();
        let latency = self.seen.at(in_flight, now, MEMORY).unwrap_or_default();
        Some(Answered { in_flight, latency, utilization: self.utilization(now) })
    }

    /// What its answers say of its resources, in the ORCA format of the real thing.
    pub(crate) fn utilization(&self, now: Instant) -> Option<Utilization> {
        let cpu = Some(self.processor.utilization(now)?);
        Some(Utilization { cpu, ..Utilization::default() })
    }

    /// Draws its share of its machine anew, and answers for how long that holds.
    pub(crate) fn antagonize(&mut self, antagonists: &Antagonists, rng: &mut Rng) -> Duration {
        let Antagonists { every, share, slower } = *antagonists;
        let taken = if rng.unit() < share { rng.unit() } else { 0.0 };
        self.changes += 1;
        self.antagonized = 1.0 + taken * (slower - 1.0);
        exponential(every, rng)
    }

    /// A request is done: the next in the queue is served.
    pub(crate) fn finish(&mut self, arrival: Arrival, answer: Answer, now: Instant) -> Option<Job> {
        if answer == Answer::Success {
            self.seen.add(arrival.found, now.since(arrival.at), now);
        }
        let next = self.queue.pop_front();
        if next.is_none() {
            self.busy = self.busy.saturating_sub(1);
            self.processor.set_busy(self.busy, now);
        }
        next
    }

    pub(crate) fn work(
        &mut self,
        job: Job,
        now: Instant,
        spec: &EndpointGroup,
        rng: &mut Rng,
    ) -> Work {
        let mut work = self.work_uncached(job, now, spec, rng);
        if work.answer == Answer::Success
            && let (Some(cache), Some(kept)) = (&mut self.cache, spec.cache)
            && !cache.touch(job.user)
        {
            work.takes = scaled(work.takes, kept.miss);
        }
        work
    }

    /// As if it had no cache: for health checks.
    fn work_uncached(&self, job: Job, now: Instant, spec: &EndpointGroup, rng: &mut Rng) -> Work {
        let chance = rng.unit();
        let (mut errors, mut resets) = (0.0, 0.0);
        for (_, fault) in &self.faults {
            match fault {
                Fault::Errors(share) => errors = share.max(errors),
                Fault::Resets(share) => resets = share.max(resets),
                _ => {}
            }
        }
        let (takes, answer) = if chance < errors {
            (FAST_FAILURE, Answer::ServerError)
        } else if chance < errors + resets {
            (FAST_FAILURE, Answer::Reset)
        } else {
            (self.service_time(job.takes, now, spec, rng), Answer::Success)
        };
        Work { job, takes, answer }
    }

    fn service_time(
        &self,
        known: Option<Duration>,
        now: Instant,
        spec: &EndpointGroup,
        rng: &mut Rng,
    ) -> Duration {
        let mut latency: Latency = known.map_or(spec.latency, Latency::Constant);
        let mut factor = self.coldness(now, spec) * self.antagonized;
        for (_, fault) in &self.faults {
            match fault {
                Fault::Latency(other) => latency = *other,
                Fault::Slower(times) => factor *= times,
                _ => {}
            }
        }
        scaled(draw(latency, rng), factor)
    }

    /// Falls from `COLD_FACTOR` to 1 while it warms up.
    fn coldness(&self, now: Instant, spec: &EndpointGroup) -> f64 {
        let Some(since) = self.cold_since else { return 1.0 };
        let done = now.since(since).as_secs_f64() / spec.warm_up.as_secs_f64();
        COLD_FACTOR + (1.0 - COLD_FACTOR) * done.min(1.0)
    }

    /// What a health check finds, and after how long. `by_request`: it asks as a client does, and
    /// does not only connect.
    pub(crate) fn check(
        &self,
        by_request: bool,
        timeout: Duration,
        now: Instant,
        spec: &EndpointGroup,
        rng: &mut Rng,
    ) -> (Duration, bool) {
        if self.has(|fault| matches!(fault, Fault::ChecksPass)) {
            return (REFUSAL, true);
        }
        if self.has(|fault| matches!(fault, Fault::ChecksFail)) || self.is_down() {
            return (REFUSAL, false);
        }
        if self.is_silent() {
            return (timeout, false);
        }
        if !by_request {
            return (REFUSAL, true);
        }
        let job = Job::new(0, 0, 0, now);
        let work = self.work_uncached(job, now, spec, rng);
        if work.takes < timeout {
            (work.takes, work.answer == Answer::Success)
        } else {
            (timeout, false)
        }
    }
}

/// Endpoints are told apart by address: 10.0.0.0/8, counted up, which is enough for 16 million.
fn address(index: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index)), 80)
}

/// The endpoint at an address that `Server::endpoint` gave.
pub(crate) fn index_of(address: SocketAddr) -> u32 {
    match address.ip() {
        IpAddr::V4(ip) => u32::from(ip) - 0x0a00_0000,
        IpAddr::V6(_) => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use model::spec::scenario::CacheSpec;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn job(slot: u32) -> Job {
        Job { user: slot.into(), ..Job::new(slot, 0, 0, Instant::ZERO) }
    }

    fn group() -> EndpointGroup {
        let mut group = EndpointGroup::new("web", 1, Latency::Constant(10 * MS));
        group.threads = Some(1);
        group.queue_max = 1;
        group
    }

    #[test]
    fn one_is_served_one_queues_and_the_next_is_reset() {
        let (spec, now) = (group(), Instant::ZERO);
        let mut rng = Rng::from_seed(1);
        let mut server = Server::new("web-1".into(), 0, 0, &spec);
        let offer = server.offer(job(1), now, &spec, &mut rng);
        assert!(matches!(offer, Offer::Serves(Work { takes, .. }) if takes == 10 * MS));
        assert!(matches!(server.offer(job(2), now, &spec, &mut rng), Offer::Queues));
        let full = server.offer(job(3), now, &spec, &mut rng);
        assert!(matches!(full, Offer::Refuses { connected: true }));
        assert_eq!(
            server.finish(job(1).arrival, Answer::Success, now).map(|job| job.slot),
            Some(2)
        );
        assert!(server.finish(job(2).arrival, Answer::Success, now).is_none());
        assert!(matches!(server.offer(job(4), now, &spec, &mut rng), Offer::Serves(_)));
    }

    #[test]
    fn faults_and_warming_up_show() {
        let mut spec = group();
        spec.warm_up = 1000 * MS;
        let mut rng = Rng::from_seed(1);
        let mut server = Server::new("web-1".into(), 0, 0, &spec);
        let mut takes = |server: &mut Server, at: Duration| {
            server.work(job(1), Instant::ZERO + at, &spec, &mut rng).takes.as_millis()
        };
        assert_eq!(takes(&mut server, Duration::ZERO), 10);
        server.booted(Instant::ZERO, &group_with_warm_up());
        assert_eq!([0, 500, 1000, 9000].map(|ms| takes(&mut server, ms * MS)), [50, 30, 10, 10]);
        server.afflict(0, Fault::Slower(3.0));
        assert_eq!(takes(&mut server, 2000 * MS), 30);
        assert!(server.afflict(1, Fault::Crash));
        assert!(server.is_down() && !server.recover(0) && server.recover(1));
        assert!(server.check(false, MS, Instant::ZERO, &spec, &mut Rng::from_seed(1)).1);
        server.afflict(2, Fault::Errors(1.0));
        assert!(server.check(false, MS, Instant::ZERO, &spec, &mut Rng::from_seed(1)).1);
        assert!(!server.check(true, 9 * MS, Instant::ZERO, &spec, &mut Rng::from_seed(1)).1);
    }

    #[test]
    fn what_is_not_in_the_cache_takes_its_time() {
        let mut spec = group();
        spec.cache = Some(CacheSpec { keys: 2, miss: 10.0 });
        let (mut rng, now) = (Rng::from_seed(1), Instant::ZERO);
        let mut server = Server::new("web-1".into(), 0, 0, &spec);
        let mut takes = |server: &mut Server, user: u32| {
            server.work(job(user), now, &spec, &mut rng).takes.as_millis()
        };
        let taken = [1, 1, 2, 3, 1, 3].map(|user| takes(&mut server, user));
        assert_eq!(taken, [100, 10, 100, 100, 100, 10]);
        // Checks see nothing of it, and a start empties it.
        server.boot();
        server.booted(now, &group());
        assert_eq!(takes(&mut server, 3), 100);
        let known = Job { takes: Some(7 * MS), ..job(3) };
        assert_eq!(server.work(known, now, &spec, &mut Rng::from_seed(1)).takes, 7 * MS);
    }

    #[test]
    fn members_of_a_group_may_differ_and_repeat() {
        let mut spec = group();
        let member = |weight, zone: Option<&str>| Member {
            weight,
            priority: 1,
            zone: zone.map(str::to_owned),
        };
        spec.members = vec![member(7, None), member(9, Some("b"))];
        for (number, weight, zone) in [(0, 7, None), (1, 9, Some("b")), (3, 9, Some("b"))] {
            let endpoint = Server::new("web-1".into(), 0, number, &spec).endpoint(5);
            assert_eq!((endpoint.weight, endpoint.priority), (Weight(weight), 1));
            assert_eq!(endpoint.zone.as_deref(), zone);
        }
    }

    fn group_with_warm_up() -> EndpointGroup {
        EndpointGroup { warm_up: 1000 * MS, ..group() }
    }
}
