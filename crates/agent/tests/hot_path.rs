//! The whole agent over real sockets: a pick and its report over Lars
//! allocate nothing.
#![allow(unsafe_code, reason = "counting allocations needs an allocator of our own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use agent::{Agent, AgentOptions, Bound};
use model::spec::{
    AgentSpec, EndpointSource, HealthKind, LarsKey, LarsSpec, PolicySpec, ServiceSpec,
};
use model::{Endpoint, Instant};
use service::{NoEvents, Service};
use wire::lars::{Decoded, Key, Message, SUCC, decode, encode};

/// Counts the allocations of all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KEY: Key = Key { modid: 1, cmdid: 1 };

fn start() -> Agent {
    let mut spec = ServiceSpec::new("web".into());
    let address = |port| Endpoint::at(SocketAddr::from(([127, 0, 0, 1], port)));
    spec.source = EndpointSource::Static((5001..5010).map(address).collect());
    spec.policy = PolicySpec { name: "lars".into(), options: Vec::new() };
    spec.health.kind = HealthKind::Off;
    let service = Service::new(&spec, Arc::new(NoEvents), Instant::ZERO, 1);
    let here = "127.0.0.1:0".parse().unwrap();
    let keys = vec![LarsKey { modid: 1, cmdid: 1, service: "web".into() }];
    let lars = LarsSpec { udp: [here; 3], routes: None, reports: None, keys, from: Vec::new() };
    let spec = AgentSpec { bind: None, lars: Some(lars), ..AgentSpec::default() };
    let begun = std::time::Instant::now();
    let clock = move || Instant::from_nanos(begun.elapsed().as_nanos() as u64);
    let options = AgentOptions { clock: Arc::new(clock), seed: 1 };
    let bound = Bound::bind(&spec, None).unwrap();
    Agent::start(options, spec, bound, BTreeMap::from([("web".into(), service)])).unwrap()
}

#[test]
fn picks_and_reports_of_lars_do_not_allocate() {
    let agent = start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.connect(agent.status().lars.unwrap().udp[KEY.server()]).unwrap();
    let (mut frame, mut block) = (Vec::with_capacity(256), [0; 256]);
    let mut calls = |count: u32| {
        for seq in 0..count {
            frame.clear();
            encode(&Message::GetHostRequest { seq, key: KEY }, &mut frame);
            socket.send(&frame).unwrap();
            let len = socket.recv(&mut block).unwrap();
            let Ok(Decoded::Complete {
                message: Message::GetHostResponse { retcode: SUCC, host: Some(host), .. },
                ..
            }) = decode(&block[..len])
            else {
                panic!("{:?}", &block[..len]);
            };
            frame.clear();
            encode(&Message::ReportRequest { key: KEY, host, retcode: SUCC }, &mut frame);
            socket.send(&frame).unwrap();
        }
    };
    calls(1000);
    let before = ALLOCATIONS.load(SeqCst);
    calls(5000);
    // Other threads of the process allocate now and then.
    let allocations = ALLOCATIONS.load(SeqCst) - before;
    assert!(allocations < 20, "{allocations} allocations over 5000 calls");
    let counts = &agent.status().counts[0];
    assert_eq!((counts.picks, counts.malformed), (6000, 0));
}
